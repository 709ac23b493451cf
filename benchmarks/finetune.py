"""Fine-tuning on ten images a class: accuracy and CPU seconds, beside the shortest plain-Trainer script.

python benchmarks/finetune.py

scikit-learn's digits as images, from the embedded model, which has never seen one; means over seeded splits
of 300 test images, which ``probe`` and Trainer see ten images a class for, ``full`` eight: it validates with
the other two. One thread. Needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rounds import machine, table
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTForImageClassification
from transformers.utils import logging

from vit_pipeline import ViTPipeline, finetune

EACH, TEST = 10, 300


def split(seed: int) -> dict[str, np.ndarray]:
    """Places among scikit-learn's digits: ``EACH`` of a class to train on, ``TEST`` to test with."""
    truth = load_digits().target
    order = np.random.default_rng(seed).permutation(len(truth))
    rest = order[TEST:]
    return {
        "train": np.concatenate([rest[truth[rest] == digit][:EACH] for digit in range(10)]),
        "test": order[:TEST],
    }


def save(folder: Path, seed: int) -> Path:
    """``folder/train/<digit>/…`` and ``folder/test/<digit>/…``."""
    digits = load_digits()
    for name, places in split(seed).items():
        for place in places:
            path = folder / name / str(digits.target[place]) / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[place] * 255 / 16).astype(np.uint8)).save(path)
    return folder


def plain(folder: Path, pipe: ViTPipeline) -> float:
    """What one writes first: Trainer with its defaults."""
    model = ViTForImageClassification.from_pretrained(
        pipe.provenance.folder, num_labels=10, ignore_mismatched_sizes=True
    )

    def images(name: str) -> list[dict[str, object]]:
        return [
            {"pixel_values": pipe.preprocess(pipe.read(path))[0], "labels": int(path.parent.name)}
            for path in sorted((folder / name).rglob("*.png"))
        ]

    options = TrainingArguments(folder / "out", report_to="none", use_cpu=True)
    trainer = Trainer(model, options, train_dataset=images("train"))
    with redirect_stdout(sys.stderr):  # its log
        trainer.train()
        found = trainer.predict(images("test"))
    return float((found.predictions.argmax(-1) == found.label_ids).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--flip", action="store_true", help="full with mirrored images too")
    options = parser.parse_args()
    seeds = options.seeds
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    pipe = ViTPipeline.from_pretrained("demo", device="cpu")
    settings = {
        "`--method probe`": {"method": "probe"},
        "`--method full`": {"method": "full"},
    }
    if options.flip:  # digits mean other things mirrored
        settings["`--method full --flip`"] = {"method": "full", "flip": True}
    rows: dict[str, list[tuple[float, float]]] = {
        name: [] for name in (*settings, "plain Trainer, its defaults")
    }
    for seed in range(seeds):
        for name, found in rows.items():
            with tempfile.TemporaryDirectory() as folder:
                photos, began = save(Path(folder) / "photos", seed), time.process_time()
                if name in settings:
                    accuracy = finetune(photos, pipe, seed=seed, **settings[name]).accuracy.value
                else:
                    accuracy = plain(photos, pipe)
                found.append((accuracy, time.process_time() - began))
    print(f"{machine()}\n{EACH} images a class, {seeds} splits of {TEST} test images, one thread\n")
    lines = []
    for name, found in rows.items():
        accuracies, seconds = zip(*found, strict=True)
        ends = f"{min(accuracies):.1%} to {max(accuracies):.1%}"
        lines.append([name, f"{np.mean(accuracies):.1%}", ends, f"{np.mean(seconds):.1f}"])
    table(["", "accuracy, mean", "smallest, largest", "CPU seconds"], lines)


if __name__ == "__main__":
    main()
