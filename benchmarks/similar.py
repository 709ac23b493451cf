"""How often the nearest images share the query's class: precision of ``vit-pipeline similar``.

    python benchmarks/similar.py FOLDER [--model demo] [--queries 1000] [--top-k 10]

FOLDER/<class>/<image>. The queries are spread evenly over the folder; each is left out of its own answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from vit_pipeline import ViTPipeline
from vit_pipeline.features import stream_features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--top-k", type=int, default=10)
    options = parser.parse_args()
    pipe = ViTPipeline.from_pretrained(options.model)
    for pool in ("cls", "mean"):
        names: list[str] = []
        parts = []
        for batch_names, features in stream_features([options.folder], pipe, pool=pool, batch_size=200):
            names += batch_names
            parts.append(torch.nn.functional.normalize(features, dim=-1))
        table = torch.cat(parts)  # (N, D)
        classes = [Path(name).parent.name for name in names]
        numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
        labels = torch.tensor([numbers[name] for name in classes])  # (N,)
        queries = torch.linspace(0, len(names) - 1, min(options.queries, len(names))).long()  # (Q,)
        scores = table[queries] @ table.T  # (Q, N)
        scores[torch.arange(len(queries)), queries] = -2  # itself
        nearest = scores.topk(options.top_k).indices  # (Q, K)
        same = (labels[nearest] == labels[queries, None]).float()  # (Q, K)
        most = (same.mean(1) > 0.5).float().mean()
        where = f"{len(queries):,} queries in {len(names):,} images of {len(numbers)} classes"
        right = f"precision@{options.top_k} {same.mean():.1%}, most of the {options.top_k} right {most:.1%}"
        print(f"{pool:5} {right}: {where}")


if __name__ == "__main__":
    main()
