"""One image explained: what each method costs, as a multiple of one prediction by the same model.

python benchmarks/explain.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from rounds import alternate, machine, model_folder, table

from vit_pipeline import ViTPipeline
from vit_pipeline.explain import METHODS, explain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="random", help="random (ViT-B/16 of seed 0), vit-base, demo, ./folder"
    )
    parser.add_argument(
        "--methods", default="gradient-attention,rollout", help=f"some of {', '.join(METHODS)}"
    )
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pipe = ViTPipeline.from_pretrained(model_folder(options.model, Path(name)), device="cpu")
    image = pipe.preprocess(pipe.read(Path(__file__).parents[1] / "examples" / "cat.png"))
    e = explain(pipe, image)
    steps = {"one prediction": lambda: pipe.postprocess(pipe.forward(image))}
    for method in options.methods.split(","):
        steps[method] = lambda method=method: explain(pipe, image, target=e.target.index).heatmap(method)
    steps["the lens"] = lambda: explain(pipe, image, target=e.target.index).lens
    alternate(steps, 1)
    times = alternate(steps, options.rounds)
    print(f"{machine()}\n{options.rounds} rounds, model {options.model}; a prediction is in each of them\n")
    lines = []
    for name, seconds in times.items():
        ratios = [one / other for one, other in zip(seconds, times["one prediction"], strict=True)]
        lines.append([name, f"{1000 * statistics.median(seconds):.1f}", f"{statistics.median(ratios):.2f}"])
    table(["", "ms, median", "times a prediction"], lines)


if __name__ == "__main__":
    main()
