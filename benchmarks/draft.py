"""Large JPEGs decoded at a reduced size (``--jpeg-draft``): how much quicker, how often the answer changes.

    python benchmarks/draft.py FOLDER --model demo

FOLDER's images are enlarged to 12-megapixel JPEGs first, for want of a folder of large photos; with
``--as-they-are`` they are taken as they are.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image
from rounds import machine, model_folder, table

from vit_pipeline import Prediction, ViTPipeline
from vit_pipeline.batch.streaming import Stream
from vit_pipeline.sources import find_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--model", default="random", help="random (ViT-B/16 of seed 0), demo, vit-base, ./folder"
    )
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--as-they-are", action="store_true")
    options = parser.parse_args()
    found = list(find_images([options.folder]))
    found = found[:: max(1, len(found) // options.limit)][: options.limit]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        paths = found if options.as_they_are else [enlarge(path, scratch) for path in found]
        pipe = ViTPipeline.from_pretrained(model_folder(options.model, scratch), device="cpu")
        measure(pipe, paths, options.model)


def enlarge(path: str, folder: Path) -> str:
    target = folder / f"{path.replace('/', '_')}.jpg"
    image = Image.open(path).convert("RGB")
    scale = (12_000_000 / (image.width * image.height)) ** 0.5
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
    return str(target)


def measure(pipe: ViTPipeline, paths: list[str], model: str) -> None:
    answers, decode = {}, {}
    for draft in (False, True):
        stream = Stream(pipe, top_k=1, threads=1, jpeg_draft=draft)
        batches = stream.batches((path, path) for path in paths)
        answers[draft] = [result for batch in batches for _, result in batch]
        decode[draft] = 1000 * stream.clock.decode / len(paths)
    pairs = [
        (one, other)
        for one, other in zip(answers[False], answers[True], strict=True)
        if isinstance(one, Prediction) and isinstance(other, Prediction)
    ]
    agreed = sum(one.label == other.label for one, other in pairs) / len(pairs)
    moved = max(abs(one.score - other.score) for one, other in pairs if one.label == other.label)
    print(f"{machine()}\n{len(pairs)} images, model {model}\n")
    rows = [
        ["exact", f"{decode[False]:.1f}", "", ""],
        ["--jpeg-draft", f"{decode[True]:.1f}", f"{agreed:.1%}", f"{moved:.4f}"],
    ]
    table(["", "decode, ms per image", "top-1 agreement", "largest change of a score"], rows)


if __name__ == "__main__":
    main()
