"""Large JPEGs decoded at a reduced size (``--jpeg-draft``): how much quicker, how far the answers move.

    python benchmarks/draft.py --model demo                  100 photos of 12 megapixels, made of examples/
    python benchmarks/draft.py --model demo --size 683 512   the smallest that are still decoded at 1/8
    python benchmarks/draft.py FOLDER --model demo           photos of your own

The made photos are always the same: crops of the example photos, enlarged, with grain of one pixel, so that
there is something for a reduced size to leave out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rounds import machine, make_photos, model_folder, table

from vit_pipeline import Prediction, ViTPipeline
from vit_pipeline.sources import find_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument(
        "--model", default="random", help="random (ViT-B/16 of seed 0), demo, vit-base, ./folder"
    )
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 3000), metavar=("WIDTH", "HEIGHT"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if options.folder is None:
            make_photos(scratch / "photos", options.limit, tuple(options.size))
            add_grain(scratch / "photos")
        found = [path for path, _ in find_images([options.folder or scratch / "photos"])]
        paths = found[:: max(1, len(found) // options.limit)][: options.limit]
        pipe = ViTPipeline.from_pretrained(model_folder(options.model, scratch), device="cpu")
        print(f"{machine()}\n{len(paths)} images, model {options.model}\n")
        measure(pipe, paths)


def add_grain(folder: Path) -> None:
    """Noise of a standard deviation of 10 in every pixel, as of a sensor in dim light."""
    chance = np.random.default_rng(0)
    for path in folder.iterdir():
        pixels = np.asarray(Image.open(path), np.float32)
        grain = chance.standard_normal((*pixels.shape[:2], 1), np.float32) * 10
        Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def measure(pipe: ViTPipeline, paths: list[str]) -> None:
    answers, each = {}, {}
    for draft in (False, True):
        started = time.perf_counter()
        answers[draft] = list(pipe.stream(paths, top_k=len(pipe.labels), threads=1, jpeg_draft=draft))
        each[draft] = 1000 * (time.perf_counter() - started) / len(paths)
    pairs = [
        (one, other)
        for one, other in zip(answers[False], answers[True], strict=True)
        if isinstance(one, Prediction) and isinstance(other, Prediction)
    ]
    agreed = sum(one.label == other.label for one, other in pairs)
    moved = sorted(largest_change(one, other) for one, other in pairs)
    rows = [
        ["exact", f"{each[False]:.0f}", "", "", ""],
        [
            "--jpeg-draft",
            f"{each[True]:.0f}",
            f"{agreed} of {len(pairs)}",
            f"{moved[len(moved) // 2]:.4f}",
            f"{moved[-1]:.4f}",
        ],
    ]
    table(["", "file → label, ms", "same label", "change of a score: median image", "largest"], rows)


def largest_change(one: Prediction, other: Prediction) -> float:
    """Over all classes."""
    scores = {entry.index: entry.score for entry in one.top}
    return max(abs(scores[entry.index] - entry.score) for entry in other.top)


if __name__ == "__main__":
    main()
