"""A run ten and fifty times as long: CPU time for an image and peak memory must stay flat.

    python benchmarks/growth.py FOLDER

FOLDER holds small images, in subfolders too; where there are too few, they are taken again and again.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rounds import machine, table

from vit_pipeline.sources import find_images

RUN = """
import sys, time
from vit_pipeline import ViTPipeline
from vit_pipeline.batch import classify
pipe = ViTPipeline.from_pretrained(sys.argv[1], device="cpu", dtype="auto")
began = time.process_time()
summary = classify(sys.argv[2], sys.argv[3], pipe, batch_size=32)
print(summary.rate, summary.errors, summary.images, time.process_time() - began)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    options = parser.parse_args()
    lines, first = [], None
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            listed = Path(name) / "list.txt"
            found = itertools.chain.from_iterable(find_images([options.folder]) for _ in itertools.count())
            with listed.open("w") as file:
                file.writelines(f"{path}\n" for path, _ in itertools.islice(found, size))
            command = [sys.executable, "-c", RUN, options.model, listed, Path(name) / "r.jsonl"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            rate, errors, images, cpu = map(float, process.stdout.read().split())
            _, _, usage = os.wait4(process.pid, 0)
        memory = usage.ru_maxrss / 1024
        first = first or (rate, memory)
        difference = f"{memory - first[1]:+.0f}"
        lines.append(
            [
                f"{images:,.0f}",
                f"{rate:.0f}",
                f"{rate / first[0]:.2f}",
                f"{1000 * cpu / images:.1f}",
                f"{memory:.0f}",
                difference,
                f"{errors:.0f}",
            ]
        )
    print(f"{machine()}\nmodel {options.model}\n")
    table(["images", "images/s", "ratio", "CPU ms each", "peak MB", "difference", "errors"], lines)


if __name__ == "__main__":
    main()
