"""ViT-B/16 on a GPU, images a second: the model alone, and file on disk → label beside what others write.

    python benchmarks/throughput.py PHOTOS --make        # first: 64 JPEGs of 500×375
    python benchmarks/gpu.py PHOTOS

float32, bfloat16 and float16 at batches of 1, 8, 64 and 256; random weights of seed 0. The rows of one batch
size take turns. "as in timm" is the loop of timm's inference script: a DataLoader whose workers decode and
resize, then the model; here with transformers' model and Pillow's resizing, so that only the loop differs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from rounds import alternate, machine, model_folder, table
from throughput import transformers_row
from torch.utils.data import DataLoader, Dataset

from vit_pipeline import ViTPipeline
from vit_pipeline.engine import cores

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Run = Callable[[], object]


class Files(Dataset[torch.Tensor]):
    """Pixel values of image files, for a DataLoader's workers."""

    def __init__(self, prepare: Callable[[str, Any], torch.Tensor], paths: list[str]) -> None:
        self.prepare, self.paths = prepare, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        return self.prepare(self.paths[place], self.paths[place])


def alone(pipe: ViTPipeline, batch: int, count: int) -> Run:
    """``count`` images through the model, from pixel values that are on the device already."""
    side = pipe.model.config.image_size
    pixels = torch.randn(batch, 3, side, side, device=pipe.device, dtype=pipe.dtype)

    def run() -> None:
        for _ in range(count // batch):
            logits = pipe.forward(pixels)
        logits.argmax(-1).tolist()  # waits for the device

    return run


def as_in_timm(pipe: ViTPipeline, paths: list[str], batch: int) -> Run:
    loader = DataLoader(Files(pipe.preparer(), paths), batch, num_workers=min(cores(), 16), pin_memory=True)

    @torch.inference_mode()
    def run() -> list[str]:
        labels: list[str] = []
        for pixels in loader:
            logits = pipe.model(pixels.to(pipe.device, pipe.dtype, non_blocking=True)).logits
            labels += [pipe.labels[index] for index in logits.argmax(-1).tolist()]
        return labels

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="random", help="random (ViT-B/16 of seed 0), vit-base, ./folder")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--dtypes", nargs="+", default=[*DTYPES], choices=DTYPES)
    parser.add_argument("--limit", type=int, default=1024, help="images in a round; 64 at a batch of 1")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    photos = sorted(map(str, options.folder.glob("*.jpg")))
    card = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(options.model, Path(scratch))
        pipes = {
            name: ViTPipeline.from_pretrained(folder, device=options.device, dtype=name)
            for name in options.dtypes
        }
        for batch in options.batches:
            count = min(options.limit, 64) if batch == 1 else options.limit // batch * batch
            paths = [*islice(cycle(photos), count)]
            for name, pipe in pipes.items():
                rows: dict[str, Run] = {
                    "transformers.pipeline": transformers_row(
                        str(pipe.provenance.folder), paths, batch, DTYPES[name], options.device
                    ),
                    "as in timm": as_in_timm(pipe, paths, batch),
                    "vit-pipeline": lambda pipe=pipe, paths=paths, batch=batch: [
                        result.label for result in pipe.stream(paths, batch, top_k=1)
                    ],
                    "model alone": alone(pipe, batch, count),
                }
                for run in rows.values():
                    run()
                times = alternate(rows, options.rounds)
                speeds = {row: count / statistics.median(seconds) for row, seconds in times.items()}
                ours = speeds["vit-pipeline"]
                lines.append(
                    [
                        f"{name}, batch {batch}",
                        *(f"{speed:,.0f}" for speed in speeds.values()),
                        f"{ours / speeds['transformers.pipeline']:.2f}",
                        f"{ours / speeds['as in timm']:.2f}",
                    ]
                )
    print(f"{card}; {machine()}\n{options.rounds} rounds, model {options.model}, images a second\n")
    table(["", *times, "× transformers", "× timm's loop"], lines)


if __name__ == "__main__":
    main()
