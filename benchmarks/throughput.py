"""ViT-B/16 end to end, file on disk → label: this package, its peers, and the floor below all of them.

    python benchmarks/throughput.py PHOTOS --make        # first: 64 JPEGs of 500×375
    python benchmarks/throughput.py PHOTOS

The same images and weights in every row, the rounds alternate, top-1 agreement is with float32. Without the
real weights at hand these are random ones, whose classes lie closer together than any trained model's.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rounds import alternate, machine, make_photos, median_ratio, model_folder, table

from vit_pipeline import ViTPipeline

Labels = list[str]


def transformers_row(
    folder: str, paths: list[str], batch: int | None, dtype: torch.dtype, device: str = "cpu"
) -> Callable[[], Labels]:
    import transformers
    from transformers import ViTImageProcessorPil

    transformers.logging.set_verbosity_error()
    processor = ViTImageProcessorPil.from_pretrained(folder)
    pipe: Any = transformers.pipeline(
        "image-classification", folder, image_processor=processor, dtype=dtype, device=device
    )
    if batch is None:
        return lambda: [pipe(path)[0]["label"] for path in paths]
    return lambda: [result[0]["label"] for result in pipe(paths, batch_size=batch)]


def transformers_rows(folder: str, paths: list[str], batch: int) -> dict[str, Callable[[], Labels]]:
    half = transformers_row(folder, paths, batch, torch.bfloat16)
    return {
        "transformers.pipeline, as documented": transformers_row(folder, paths, None, torch.float32),
        f"transformers.pipeline, batch {batch}": transformers_row(folder, paths, batch, torch.float32),
        f"transformers.pipeline, batch {batch}, bf16": half,
    }


class Logits(torch.nn.Module):
    """The model with a tensor for an answer, as exporters want it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(pixel_values).logits
        return logits


def in_turn(pipe: ViTPipeline, paths: list[str], batch: int, run: Callable[[Any], Any]) -> Labels:
    """Decode and preprocess a batch, then run it: what a loop around such a runtime does."""
    labels: Labels = []
    for start in range(0, len(paths), batch):
        images = [Image.open(path).convert("RGB") for path in paths[start : start + batch]]
        pixels = pipe.processor(images=images, return_tensors="np").pixel_values
        labels += [pipe.labels[index] for index in run(pixels).argmax(-1)]
    return labels


def openvino_rows(pipe: ViTPipeline, paths: list[str], batch: int) -> dict[str, Callable[[], Labels]]:
    import openvino

    example = torch.zeros(batch, 3, 224, 224)
    model = openvino.convert_model(Logits(pipe.model).eval(), example_input=example)
    core = openvino.Core()
    rows = {}
    for name, precision in (("f32", "f32"), ("bf16", "bf16")):
        compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        )
        rows[f"OpenVINO {openvino.__version__.split('-')[0]}, {name}"] = lambda compiled=compiled: in_turn(
            pipe, paths, batch, lambda pixels: compiled(pixels)[0]
        )
    return rows


def onnx_rows(
    pipe: ViTPipeline, paths: list[str], batch: int, scratch: Path
) -> dict[str, Callable[[], Labels]]:
    import onnxruntime

    target = scratch / "model.onnx"
    example = (torch.zeros(batch, 3, 224, 224),)
    names = {"input_names": ["pixels"], "output_names": ["logits"]}
    torch.onnx.export(Logits(pipe.model).eval(), example, target, dynamo=True, verbose=False, **names)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    return {
        f"ONNX Runtime {onnxruntime.__version__}, f32": lambda: in_turn(
            pipe, paths, batch, lambda pixels: session.run(None, {"pixels": pixels})[0]
        )
    }


def floor(count: int, batch: int, dtype: torch.dtype) -> Callable[[], Labels]:
    """The matrix products of the linear layers alone, on weights packed by oneDNN."""
    rows = batch * 197
    products = []
    for outputs, inputs in ((2304, 768), (768, 768), (3072, 768), (768, 3072)):
        weight = torch.randn(outputs, inputs).to(dtype)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        products.append((torch.randn(rows, inputs).to(dtype), packed))

    @torch.inference_mode()
    def run() -> Labels:
        for _ in range(count // batch * 12):
            for values, weight in products:
                torch.ops.mkldnn._linear_pointwise(values, weight, None, "none", [], "")
        return []

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", action="store_true", help="make the images, and stop")
    parser.add_argument("--model", default="random", help="random (ViT-B/16 of seed 0), vit-base, ./folder")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, default=64, help="images in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile (half a minute more)")
    options = parser.parse_args()
    if options.make:
        return make_photos(options.folder)
    paths = sorted(map(str, options.folder.glob("*.jpg")))[: options.limit]
    paths = paths[: len(paths) // options.batch * options.batch]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # the exporter misses torchvision, which nothing here needs
    with tempfile.TemporaryDirectory() as name:
        measure(options, paths, Path(name))
    return None


def measure(options: argparse.Namespace, paths: list[str], scratch: Path) -> None:
    folder, batch = model_folder(options.model, scratch), options.batch
    exact = ViTPipeline.from_pretrained(folder, device="cpu")
    half = ViTPipeline.from_pretrained(folder, device="cpu", dtype="bfloat16")

    def ours(pipe: ViTPipeline, **settings: Any) -> Callable[[], Labels]:
        return lambda: [result.label for result in pipe.stream(paths, batch, top_k=1, **settings)]  # type: ignore[union-attr]

    rows = transformers_rows(str(exact.provenance.folder), paths, batch)
    rows |= onnx_rows(exact, paths, batch, scratch) | openvino_rows(exact, paths, batch)
    rows |= {"vit-pipeline, float32": ours(exact), "vit-pipeline, bf16": ours(half)}
    if options.compile:
        rows["vit-pipeline, bf16, --compile"] = ours(half, compile=True)
    floors = {
        "floor: the GEMMs alone, f32": floor(len(paths), batch, torch.float32),
        "floor: the GEMMs alone, bf16": floor(len(paths), batch, torch.bfloat16),
    }
    labels = {name: run() for name, run in rows.items()}  # also warms up
    for run in floors.values():
        run()
    times = alternate(rows | floors, options.rounds)
    first = next(iter(rows))
    print(f"{machine()}\n{len(paths)} images, {options.rounds} rounds, model {options.model}\n")
    lines = []
    for name, seconds in times.items():
        agreed = sum(map(str.__eq__, labels[name], labels[first])) if name in labels else None
        lines.append(
            [
                name,
                f"{1000 * statistics.median(seconds) / len(paths):.1f}",
                f"{1000 * min(seconds) / len(paths):.1f}",
                f"{median_ratio(seconds, times[first]):.2f}",
                "" if agreed is None else f"{agreed / len(paths):.1%}",
            ]
        )
    table(["", "ms per image", "best", "times as fast", "top-1 agreement"], lines)


if __name__ == "__main__":
    main()
