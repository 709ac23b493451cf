"""Ray Data beside one process on this machine, and what that means for a million and a billion images.

    python benchmarks/ray_scale.py /tmp/photos --make      # first: 64 JPEGs of 500×375
    python benchmarks/ray_scale.py /tmp/photos

Starting Ray and loading the models is left out. The model is a ViT-B/16 with random weights; the photos are
classified several times over.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import ray
from rounds import machine, make_photos, model_folder, table

from vit_pipeline import ViTPipeline
from vit_pipeline.batch import Classifier

BATCH = 8


def in_one_process(folder: str, paths: list[str]) -> float:
    """Images/s after the first batch."""
    results = ViTPipeline.from_pretrained(folder, device="cpu").stream(paths, BATCH)
    first = [*islice(results, BATCH)]
    began = time.perf_counter()
    return sum(1 for _ in results) / (time.perf_counter() - began) if first else 0


class Timed(Classifier):
    """Says who has done a batch, and when."""

    def __call__(self, batch: Any) -> dict[str, Any]:
        size = len(super().__call__(batch)["label"])
        return {"actor": [os.getpid()] * size, "ended": [time.time()] * size}


def on_ray(folder: str, paths: list[str], actors: int) -> float:
    """Images/s from the end of the first actor's first batch on; other actors' first batches do not count."""
    images = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths) // BATCH)
    rows = images.map_batches(
        Timed,
        fn_constructor_kwargs={"model": folder, "device": "cpu"},
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
    ).take_all()
    first: dict[int, float] = {}
    for row in sorted(rows, key=itemgetter("ended")):
        first.setdefault(row["actor"], row["ended"])
    counted = sum(row["ended"] > first[row["actor"]] for row in rows)
    return counted / (max(row["ended"] for row in rows) - min(first.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true", help="make the images, and stop")
    parser.add_argument("--model", default="random", help="random (ViT-B/16 of seed 0), vit-base, ./folder")
    parser.add_argument("--images", type=int, default=192)
    options = parser.parse_args()
    if options.make:
        return make_photos(options.folder)
    photos = sorted(str(path.resolve()) for path in options.folder.glob("*.jpg"))
    paths = (photos * (options.images // len(photos) + 1))[: options.images // BATCH * BATCH]
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(options.model, Path(scratch))
        alone = in_one_process(folder, paths)
        ray.init(num_cpus=2 * cores, log_to_driver=False)  # counted twice: reading needs some beside actors
        spread = on_ray(folder, paths, cores)
    print(f"{machine()}\n{len(paths)} images, {cores} cores\n")
    rows = {"one process": alone, f"Ray, {cores} actors": spread}
    lines = [[name, f"{speed:.2f}", f"{speed / alone:.2f}"] for name, speed in rows.items()]
    table(["", "images/s", "× one process"], lines)
    print("\nAt Ray's rate a core, all cores alike, storage as fast as they are, and nothing failing:")
    lines = []
    for power in (6, 9):
        hours = 10**power / (spread / cores) / 3600
        lines.append([f"10^{power}", f"{hours:,.0f}", f"{hours / 64:,.1f}", f"{hours / 4096:,.2f}"])
    table(["images", "core-hours", "hours on 64 cores", "hours on 4,096 cores"], lines)
    return None


if __name__ == "__main__":
    main()
