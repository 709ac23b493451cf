"""float32 on the CPU: what two public calls of torch do to the matrix products, in time and in the logits.

python benchmarks/linear.py
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import warnings
from pathlib import Path

import torch
from rounds import alternate, machine, median_ratio, model_folder, table

from vit_pipeline import ViTPipeline

BATCH, ROUNDS = 8, 7


def packed(model: torch.nn.Module) -> torch.nn.Module:
    """A copy whose Linear layers keep their weights as oneDNN wants them."""
    from torch.utils.mkldnn import to_mkldnn

    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Linear):
                setattr(module, name, to_mkldnn(child))
    return model


def main() -> None:
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # to_mkldnn scripts what it returns
    with tempfile.TemporaryDirectory() as name:
        plain = ViTPipeline.from_pretrained(model_folder("random", Path(name)), device="cpu").model
    inputs = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    models = {
        "as it is": (plain, "highest"),
        "torch.utils.mkldnn.to_mkldnn on each Linear": (packed(plain), "highest"),
        'torch.set_float32_matmul_precision("medium")': (plain, "medium"),
    }

    def run(name: str) -> torch.Tensor:
        model, precision = models[name]
        torch.set_float32_matmul_precision(precision)
        with torch.inference_mode():
            return model(inputs).logits

    exact = run("as it is")
    moved = {name: (run(name) - exact).abs().max().item() for name in models}
    times = alternate({name: lambda name=name: run(name) for name in models}, ROUNDS)
    print(f"{machine()}\nViT-B/16 of seed 0, batch {BATCH}, {ROUNDS} rounds\n")
    rows = [
        [
            name,
            f"{1000 * statistics.median(times[name]) / BATCH:.1f}",
            f"{1000 * min(times[name]) / BATCH:.1f}",
            f"{median_ratio(times[name], times['as it is']):.2f}",
            f"{moved[name]:.1e}",
        ]
        for name in models
    ]
    table(["float32", "ms per image", "best", "times as fast", "largest change of a logit"], rows)


if __name__ == "__main__":
    main()
