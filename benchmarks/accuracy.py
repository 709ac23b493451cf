"""Top-1 accuracy of a model on a folder of images sorted into folders by class name.

    python benchmarks/accuracy.py FOLDER [--model demo] [--dtype float32] [--against float32]

FOLDER/<class>/<image>; every class must be one of the model's labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vit_pipeline import Prediction, ViTPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--against", help="another dtype: also print how often both say the same")
    options = parser.parse_args()
    pipe = ViTPipeline.from_pretrained(options.model, dtype=options.dtype)
    other = ViTPipeline.from_pretrained(options.model, dtype=options.against) if options.against else None
    classes = sorted(path for path in options.folder.iterdir() if path.is_dir())
    if not classes or not {path.name for path in classes} <= set(pipe.labels):
        parser.error(
            f"{options.folder}: no folders named after the model's classes: {', '.join(pipe.labels[:10])}"
        )
    right = total = same = 0
    for folder in classes:
        images = sorted(folder.iterdir())
        answers = pipe(images, top_k=1, batch_size=200, on_error="return")
        if other:
            others = other(images, top_k=1, batch_size=200, on_error="return")
            pairs = zip(answers, others, strict=True)
            same += sum(
                isinstance(a, Prediction) and isinstance(b, Prediction) and a.label == b.label
                for a, b in pairs
            )
        hits = sum(isinstance(answer, Prediction) and answer.label == folder.name for answer in answers)
        print(f"{folder.name:12} {hits / len(answers):7.2%}  ({hits} of {len(answers)})")
        right, total = right + hits, total + len(answers)
    print(f"{'top-1':12} {right / total:7.2%}  ({right} of {total}), {pipe!r}")
    if other:
        print(f"{'agreement':12} {same / total:7.2%}  ({same} of {total}) with {options.against}")


if __name__ == "__main__":
    main()
