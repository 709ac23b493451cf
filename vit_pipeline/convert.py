"""Any model this package loads becomes a folder for others: plain transformers, OpenVINO, ONNX's runtimes.

Leaves out every other direction: timm's layout is read, never written.
"""

from __future__ import annotations

import json
import logging
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Unpack

import torch

from .backends.on_openvino import Tensors, converted, library
from .checkpoints.processors import quiet_transformers
from .errors import ArgumentError, check_installed
from .files import new_folder
from .loading import LocateOptions
from .pipeline import ViTPipeline

Target = Literal["transformers", "openvino", "onnx"]
EXPORT = "export.json"  #: beside an export: from what it was made, and how exact it is
FILES = {"transformers": "model.safetensors", "openvino": "model.xml", "onnx": "model.onnx"}


def convert(
    name: str | Path,
    folder: str | Path,
    revision: str | None = None,
    *,
    to: Target = "transformers",
    device: str = "cpu",
    **options: Unpack[LocateOptions],
) -> Path:
    """Write a model, with ``config.json`` (its labels) and ``preprocessor_config.json``, into ``folder``.

    ``to="transformers"``: ``model.safetensors``. ``ViTForImageClassification.from_pretrained(folder)`` gives
    the same logits for the same pixel values, to the last bit. Its processor gives the same pixels, with one
    exception: for timm's centre crop plain transformers rounds the offset down where timm rounds to even,
    one pixel apart when the resized image is 3, 7, 11 … pixels longer than the crop. This package reads
    timm's rule from the folder.

    ``to="openvino"``: ``model.xml`` and ``model.bin``; ``to="onnx"``: ``model.onnx``. Both map
    ``pixel_values`` (B, 3, H, W) to ``logits`` (B, C), if there is a classifier, and ``tokens``
    (B, 1 + N, D), the hidden states after the final LayerNorm, in float32. ``export.json`` says from what and
    with what they were made, and how far their outputs are from torch's (in float32: where a CPU has
    bfloat16, OpenVINO takes that unless it is given ``INFERENCE_PRECISION_HINT``: ``f32``).

    The other arguments are those of :meth:`ViTPipeline.from_pretrained`. Raises what it raises, what
    :meth:`ViTPipeline.save_pretrained` raises, and ArgumentError where an exporter is not installed.
    """
    if to not in FILES:
        raise ArgumentError(f"to is {to!r}; use {', '.join(FILES)}")
    with new_folder(folder) as partial:
        pipe = ViTPipeline.from_pretrained(name, revision, device=device, **options)
        if to == "transformers":
            pipe.write_files(partial)
        else:
            _export(pipe, partial, to)
    return Path(folder)


def _export(pipe: ViTPipeline, folder: Path, to: Target) -> None:
    path, module = folder / FILES[to], Tensors(pipe.model)
    openvino = library()  # reads ONNX, too
    if to == "openvino":
        openvino.save_model(converted(module), path, compress_to_fp16=False)
    else:
        _to_onnx(module, path)
    with quiet_transformers():
        pipe.model.config.save_pretrained(folder)
        pipe.processor.save_pretrained(folder)
    pixel_values = torch.randn(8, *module.example.shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = dict(zip(module.names, module(pixel_values), strict=True))
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(pixel_values.numpy())
    differences = {name: float(abs(found[name] - exact[name].numpy()).max()) for name in exact}
    packages = ("torch", "transformers", "openvino", *["onnx", "onnxscript"] * (to == "onnx"))
    about = {
        "model": str(pipe.provenance),
        "sha256": pipe.provenance.sha256,
        "versions": {package: version(package) for package in packages},
        "largest_difference": differences,  # from torch, over 8 random images, when OpenVINO runs the file
    }
    (folder / EXPORT).write_text(json.dumps(about, indent=2), "utf-8")


def _to_onnx(module: Tensors, path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        check_installed(package, "convert to onnx")
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    try:
        with warnings.catch_warnings(), quiet_transformers():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (module.example,),
                path,
                dynamo=True,
                verbose=False,
                external_data=sum(p.nbytes for p in module.parameters()) > 1.9e9,  # the format's limit: 2 GB
                input_names=["pixel_values"],
                output_names=module.names,
                dynamic_shapes={"pixel_values": {0: torch.export.Dim.DYNAMIC}},
            )
    finally:
        log.setLevel(level)
