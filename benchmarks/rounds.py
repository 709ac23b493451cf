"""What the benchmarks share: alternating rounds, a table of medians and ratios, images, weights."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
EXAMPLES = [ROOT / "examples" / name for name in ("astronaut.png", "cat.png", "coffee.png", "rocket.jpg")]


def alternate(rows: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every row in every round; a round runs all rows once, so that noise hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(rounds):
        for name, run in rows.items():
            if sys.stderr.isatty():
                print(f"\rround {number + 1} of {rounds}: {name:<50}", end="", file=sys.stderr)
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    if sys.stderr.isatty():
        print("\r" + " " * 75 + "\r", end="", file=sys.stderr)
    return times


def table(headings: list[str], rows: list[list[str]]) -> None:
    """A Markdown table, columns aligned."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    for number, row in enumerate([headings, ["-" * width for width in widths], *rows]):
        cells = [cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        if number == 1:
            cells[1:] = [cell[:-1] + ":" for cell in cells[1:]]
        print("| " + " | ".join(cells) + " |")


def median_ratio(times: list[float], others: list[float]) -> float:
    """The median over rounds of ``others`` / ``times``: how many times quicker, each round by itself."""
    return statistics.median(other / own for own, other in zip(times, others, strict=True))


def machine() -> str:
    """The CPU's model, its cores, what it has for bfloat16, and the versions."""
    import transformers

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    features = [name for name in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(name)]
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, {', '.join(features) or 'no native bfloat16'}; "
        f"load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, transformers {transformers.__version__}"
    )


def make_photos(folder: Path, count: int = 64, size: tuple[int, int] = (500, 375)) -> None:
    """Crops of the four example photos as JPEGs; always the same ones."""
    import random

    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    photos = [Image.open(path).convert("RGB") for path in EXAMPLES]
    for number in range(count):
        photo = photos[number % len(photos)]
        width = chance.uniform(0.5, 1) * min(photo.width, photo.height * size[0] / size[1])
        height = width * size[1] / size[0]
        left, top = chance.uniform(0, photo.width - width), chance.uniform(0, photo.height - height)
        piece = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        piece.save(folder / f"{number:04}.jpg", quality=90)


def model_folder(name: str, scratch: Path) -> str:
    """What to load: ``random`` becomes a folder with a ViT-B/16 of seed 0, any other name stays."""
    if name != "random":
        return name
    from transformers import ViTForImageClassification, ViTImageProcessorPil, logging

    from vit_pipeline import loading

    logging.disable_progress_bar()

    torch.manual_seed(0)
    model = ViTForImageClassification(loading.load_config("vit-base"))
    model.save_pretrained(scratch / "model")
    processor = ViTImageProcessorPil(
        size={"height": 224, "width": 224}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2
    )
    processor.save_pretrained(scratch / "model")
    return str(scratch / "model")
