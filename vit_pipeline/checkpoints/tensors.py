"""The tensors of a checkpoint, checked against its config before any is loaded, and their names.

A transformers checkpoint keeps the names of transformers ≤ 5.8 on disk (``vit.encoder.layer.0…``), while the
modules of ≥ 5.9 are named otherwise (``vit.layers.0…``); :func:`to_checkpoint_key` maps the second to the
first. Leaves out: timm's names (``timm_checkpoint``), building the model (``loading``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .config import num_tokens, pair

MAX_HEADER_BYTES = 16 * 2**20  # the header of a ViT-H/14 file has about 100 kB

# live name (≥ 5.9) → name on disk (≤ 5.8); the rest is the same in both
_RENAMES = tuple(
    (re.compile(rf"^((?:vit\.)?)layers\.(\d+)\.{new}(?=\.|$)"), rf"\g<1>encoder.layer.\g<2>.{old}")
    for new, old in (
        (r"attention\.q_proj", "attention.attention.query"),
        (r"attention\.k_proj", "attention.attention.key"),
        (r"attention\.v_proj", "attention.attention.value"),
        (r"attention\.o_proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        (r"layernorm_before", "layernorm_before"),
        (r"layernorm_after", "layernorm_after"),
    )
)


def to_checkpoint_key(name: str) -> str:
    """The name on disk of a live parameter or module (``vit.layers.0.mlp.fc1.weight`` →
    ``vit.encoder.layer.0.intermediate.dense.weight``). Names on disk come back unchanged."""
    for pattern, replacement in _RENAMES:
        name, count = pattern.subn(replacement, name)
        if count:
            break
    return name


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint of this config holds, by its name on disk, with its shape."""
    width, hidden, labels = config["hidden_size"], config["intermediate_size"], len(config["id2label"])
    shapes: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, num_tokens(config), width),
        "vit.embeddings.patch_embeddings.projection.weight": (width, 3, *pair(config["patch_size"])),
        "vit.embeddings.patch_embeddings.projection.bias": (width,),
    }

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    for index in range(config["num_hidden_layers"]):
        layer = f"vit.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.attention.{part}", width, width, config["qkv_bias"])
        linear(f"{layer}.attention.output.dense", width, width)
        linear(f"{layer}.intermediate.dense", hidden, width)
        linear(f"{layer}.output.dense", width, hidden)
        for norm in ("layernorm_before", "layernorm_after"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (width,)
    shapes["vit.layernorm.weight"] = shapes["vit.layernorm.bias"] = (width,)
    linear("classifier", labels, width)
    return shapes


def check_tensors(found: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], where: object) -> None:
    """CheckpointError unless the file's tensors are exactly those of the config: none missing, none left
    over, none of another shape. Old and new key names are both accepted."""
    expected = expected_shapes(config)
    shapes = {to_checkpoint_key(name): tuple(shape) for name, shape in found.items()}
    head = shapes.get("classifier.weight")
    if head is not None and head[:1] != (len(config["id2label"]),):
        outputs, classes = head[0] if head else 0, len(config["id2label"])
        raise CheckpointError(
            f"{where}: the head has {outputs} outputs and config.json has {classes} class names"
        )
    if len(shapes) < len(found):
        raise CheckpointError(f"{where}: the weights hold a tensor twice, under its old and its new name")
    for problem, names in (
        ("lack", [name for name in expected if name not in shapes]),
        ("hold unexpected", [name for name in shapes if name not in expected]),
    ):
        if names:
            raise CheckpointError(
                f"{where}: the weights {problem} {_some(names)}: they do not fit config.json"
            )
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise CheckpointError(
                f"{where}: {name} has the shape {shape}; config.json asks for {expected[name]}"
            )


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file, from its header alone. CheckpointError where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            start = file.read(8)
        if len(start) == 8 and (length := struct.unpack("<Q", start)[0]) > MAX_HEADER_BYTES:
            raise CheckpointError(f"{path}: not a safetensors file: its header claims {length:,} bytes")
        with safe_open(path, framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
            odd = [n for n, s in slices.items() if s.get_dtype() not in ("F64", "F32", "F16", "BF16")]
            if odd:
                raise CheckpointError(
                    f"{path}: {_some(odd)} has the type {slices[odd[0]].get_dtype()}, not a float"
                )
            return {name: tuple(part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: damaged or cut short ({error}); remove the file and download it again"
        ) from error


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
