"""One image, warm: where the time goes, and what is spent around the bare ``model(pixel_values)``.

python benchmarks/latency.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from rounds import alternate, machine, make_photos, model_folder, table

from vit_pipeline import ViTPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="random", help="random (ViT-B/16 of seed 0), vit-base, demo, ./folder"
    )
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(options, Path(name))


@torch.inference_mode()
def measure(options: argparse.Namespace, scratch: Path) -> None:
    make_photos(scratch, 1, (640, 480))
    path = scratch / "0000.jpg"
    pipe = ViTPipeline.from_pretrained(
        model_folder(options.model, scratch), device="cpu", dtype=options.dtype
    )
    image = pipe.read(path)
    pixel_values = pipe.preprocess(image)  # (1, 3, H, W)
    logits = pipe.forward(pixel_values)  # (1, C)
    cast = pixel_values.to(pipe.dtype)
    steps = {
        "read": lambda: pipe.read(path),
        "preprocess": lambda: pipe.preprocess(image),
        "forward": lambda: pipe.forward(pixel_values),
        "postprocess": lambda: pipe.postprocess(logits),
        "pipe(path)": lambda: pipe(path),
        "bare model(pixel_values)": lambda: pipe.model(cast),
    }
    alternate(steps, 2)
    times = alternate(steps, options.rounds)
    around = [
        sum(times[name][number] for name in ("read", "preprocess", "postprocess"))
        for number in range(options.rounds)
    ]
    times["everything but forward"] = around
    print(
        f"{machine()}\n640×480 JPEG, {options.rounds} rounds, {str(pipe.dtype)[6:]}, model {options.model}\n"
    )
    lines = [
        [name, f"{1000 * statistics.median(seconds):.2f}", f"{1000 * min(seconds):.2f}"]
        for name, seconds in times.items()
    ]
    table(["", "ms, median", "best"], lines)


if __name__ == "__main__":
    main()
