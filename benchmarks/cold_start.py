"""Process start to first answer, and peak memory: this package and the shortest transformers script.

python benchmarks/cold_start.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rounds import EXAMPLES, machine, median_ratio, model_folder, table

from vit_pipeline import loading

BARE = """
import sys, torch
from PIL import Image
from transformers import ViTForImageClassification, ViTImageProcessorPil
folder, path = sys.argv[1:]
processor = ViTImageProcessorPil.from_pretrained(folder)
model = ViTForImageClassification.from_pretrained(folder).eval()
with torch.inference_mode():
    logits = model(**processor(images=Image.open(path).convert("RGB"), return_tensors="pt")).logits
print(model.config.id2label[logits.argmax().item()])
"""
OURS = "import sys; from vit_pipeline import predict; print(predict(sys.argv[2], model=sys.argv[1]).label)"


def run(code: str, *arguments: str) -> tuple[float, float, float, str]:
    """Seconds, CPU seconds (steadier where others use the machine), peak resident MB, and the answer."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    answer = process.stdout.read().strip()
    _, _, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - started
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="random", help="random (ViT-B/16 of seed 0), vit-base, demo, ./folder"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = {"the shortest transformers script": BARE, "vit_pipeline.predict": OURS}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    work: dict[str, list[float]] = {name: [] for name in rows}
    memory: dict[str, list[float]] = {name: [] for name in rows}
    answers = set()
    with tempfile.TemporaryDirectory() as name:
        folder = str(loading.locate(model_folder(options.model, Path(name))).folder)
        for number in range(options.rounds + 1):
            for row, code in rows.items():
                took, cpu, peak, answer = run(code, folder, str(EXAMPLES[1]))
                answers.add(answer)
                if number:  # the first round fills the file cache
                    seconds[row].append(took)
                    work[row].append(cpu)
                    memory[row].append(peak)
    assert len(answers) == 1, f"they disagree: {answers}"
    bare = next(iter(rows))
    print(f"{machine()}\n{options.rounds} rounds, model {options.model}\n")
    lines = [
        [
            row,
            f"{statistics.median(seconds[row]):.2f}",
            f"{1 / median_ratio(seconds[row], seconds[bare]):.2f}",
            f"{statistics.median(work[row]):.2f}",
            f"{1 / median_ratio(work[row], work[bare]):.2f}",
            f"{statistics.median(memory[row]):.0f}",
            f"{statistics.median(memory[row]) / statistics.median(memory[bare]):.2f}",
        ]
        for row in rows
    ]
    table(["", "s, median", "ratio", "CPU s, median", "ratio", "peak MB, median", "ratio"], lines)


if __name__ == "__main__":
    main()
