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
from vit_pipeline.backends import OpenVINO
from vit_pipeline.backends.on_openvino import Tensors, library
from vit_pipeline.loading import has_native_bfloat16

Labels = list[str]
NATIVE = has_native_bfloat16(torch.device("cpu"))  # elsewhere bfloat16 takes several times as long


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
    rows = {
        "transformers.pipeline, as documented": transformers_row(folder, paths, None, torch.float32),
        f"transformers.pipeline, batch {batch}": transformers_row(folder, paths, batch, torch.float32),
    }
    if NATIVE:
        half = transformers_row(folder, paths, batch, torch.bfloat16)
        rows[f"transformers.pipeline, batch {batch}, bf16"] = half
    return rows


def in_turn(pipe: ViTPipeline, paths: list[str], batch: int, run: Callable[[Any], Any]) -> Labels:
    """Decode and preprocess a batch, then run it: what a loop around such a runtime does."""
    labels: Labels = []
    for start in range(0, len(paths), batch):
        images = [Image.open(path).convert("RGB") for path in paths[start : start + batch]]
        pixels = pipe.processor(images=images, return_tensors="np").pixel_values
        labels += [pipe.labels[index] for index in run(pixels).argmax(-1)]
    return labels


def openvino_rows(pipe: ViTPipeline, paths: list[str], batch: int) -> dict[str, Callable[[], Labels]]:
    """A plain loop around OpenVINO, and this package with the same compiled models: what lies between them is
    the price of the pipeline."""
    native = "BF16" in library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    images = pipe.preprocess([pipe.read(path) for path in paths[:64]])
    bare, ours = {}, {}
    for precision in ("float32", *["bfloat16"] * native, "int8"):
        backend = OpenVINO(pipe.model, precision, images if precision == "int8" else None)
        bare[f"OpenVINO, plain loop, {precision}"] = lambda run=backend: in_turn(
            pipe, paths, batch, lambda pixels: run.logits(torch.from_numpy(pixels)).numpy()
        )
        same = ViTPipeline(pipe.model, pipe.processor, backend=backend)
        ours[f"vit-pipeline, openvino, {precision}"] = our_row(same, paths, batch)
    return bare | ours


def our_row(pipe: ViTPipeline, paths: list[str], batch: int) -> Callable[[], Labels]:
    return lambda: [result.label for result in pipe.stream(paths, batch, top_k=1)]  # type: ignore[union-attr]


def onnx_rows(
    pipe: ViTPipeline, paths: list[str], batch: int, scratch: Path
) -> dict[str, Callable[[], Labels]]:
    import onnxruntime

    target = scratch / "model.onnx"
    example = (torch.zeros(batch, 3, 224, 224),)
    names = {"input_names": ["pixels"], "output_names": ["logits", "tokens"]}
    torch.onnx.export(Tensors(pipe.model), example, target, dynamo=True, verbose=False, **names)
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
    parser.add_argument("--openvino", action="store_true", help="only the rows of OpenVINO")
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

    rows = {}
    if not options.openvino:
        rows |= transformers_rows(str(exact.provenance.folder), paths, batch)
        rows |= onnx_rows(exact, paths, batch, scratch)
        rows |= {"vit-pipeline, float32": our_row(exact, paths, batch)}
    if NATIVE and not options.openvino:
        half = ViTPipeline.from_pretrained(folder, device="cpu", dtype="bfloat16")
        rows["vit-pipeline, bf16"] = our_row(half, paths, batch)
    rows |= openvino_rows(exact, paths, batch)
    floors = {"floor: the GEMMs alone, f32": floor(len(paths), batch, torch.float32)}
    if NATIVE:
        floors["floor: the GEMMs alone, bf16"] = floor(len(paths), batch, torch.bfloat16)
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
    print()
    for name, seconds in times.items():
        if name.startswith("vit-pipeline, openvino"):
            bare = times[name.replace("vit-pipeline, openvino", "OpenVINO, plain loop")]
            print(f"{name}: {median_ratio(seconds, bare):.2f} × the plain loop")


if __name__ == "__main__":
    main()
