"""A timm ViT checkpoint as Hugging Face's ViT: sizes checked against the tensors, class names, tensor names.

timm keeps query, key and value in one tensor and has names of its own; here they become what
``ViTForImageClassification`` reads, under the names that transformers keeps on disk
(``vit.encoder.layer.0…``, in every release). Strict: no tensor is missing, left over or of another shape.
Leaves out: what the config alone says (``timm_config``), the preprocessing recipe (``timm_processor``) and
building the model (``loading``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..names import IMAGENET_LABELS
from .timm_config import TimmConfig, is_timm_config, read_timm_config, refuse_features, unsupported

if TYPE_CHECKING:
    import torch

__all__ = ["convert_state", "is_timm_config", "key_map", "to_transformers_config"]

_LAYER_NORM_EPS = 1e-6  # timm's; Hugging Face's ViT has 1e-12, and its logits then differ by 3e-6
_BLOCK = re.compile(r"blocks\.(0|[1-9]\d*)\.")


def to_transformers_config(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], where: object
) -> dict[str, Any]:
    """The same model as a transformers ``config.json`` (``model_type`` "vit"), checked against the tensors.

    Args:
        config: timm's ``config.json``.
        shapes: each tensor's name and shape, as the safetensors header has them.
        where: the checkpoint, as messages name it.

    Raises:
        CheckpointError: the model has parts that Hugging Face's ViT has not; config and tensors contradict
            each other; a tensor is missing, left over or of another shape.
    """
    timm = read_timm_config(config, where)
    refuse_features(shapes, where)
    found = _sizes(timm, shapes, where)
    for name, size in found.items():
        claimed = getattr(timm, name)
        if claimed != size:
            raise CheckpointError(
                f"{where}: {name} is {claimed} by {timm.source[name]} and {size} by the tensors: config.json "
                "and weights are not of one model; download both again"
            )
    result = {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "hidden_size": timm.embed_dim,
        "num_hidden_layers": timm.depth,
        "num_attention_heads": timm.num_heads,
        "intermediate_size": int(timm.embed_dim * timm.mlp_ratio),
        "hidden_act": "gelu",
        "layer_norm_eps": _LAYER_NORM_EPS,
        "image_size": timm.img_size,
        "patch_size": timm.patch_size,
        "num_channels": 3,
        "qkv_bias": timm.qkv_bias,
        "id2label": dict(enumerate(_labels(config, timm, where))),
    }
    _check_shapes(shapes, {name: shape for name, (shape, _) in _layout(result).items()}, where)
    return result


def key_map(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """timm's name of each tensor → its names on disk in transformers' layout: three, in order, for a qkv.

    ``config`` is what :func:`to_transformers_config` gave.
    """
    return {name: targets for name, (_, targets) in _layout(config).items()}


def convert_state(get: Callable[[str], torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights under the names of transformers' layout on disk.

    Args:
        get: timm's name → tensor: ``get_tensor`` of an open safetensors file, or ``__getitem__`` of a state
            dict. Names and shapes are those that :func:`to_transformers_config` has checked.
        config: what that function gave.

    Returns:
        name → tensor, nothing copied: query, key and value are views of one tensor.
    """
    state: dict[str, torch.Tensor] = {}
    for name, targets in key_map(config).items():
        parts = get(name).chunk(len(targets))  # qkv: (3·D, D) → three of (D, D)
        state.update(zip(targets, parts, strict=True))
    return state


def _sizes(timm: TimmConfig, shapes: Mapping[str, tuple[int, ...]], where: object) -> dict[str, int | float]:
    """Sizes as the tensors have them, under the names of timm's settings."""

    def size(name: str, axis: int) -> int:
        if name not in shapes:
            raise CheckpointError(f"{where}: the weights lack {name}, which every ViT classifier of timm has")
        return shapes[name][axis] if axis < len(shapes[name]) else 0

    patch, rows = size("patch_embed.proj.weight", 2), size("pos_embed", 1)
    if rows == (timm.img_size // timm.patch_size) ** 2:
        raise unsupported(where, "position embeddings without class token", f"pos_embed has {rows} rows")
    side = math.isqrt(max(rows - 1, 0)) * patch
    width, hidden = size("patch_embed.proj.weight", 0), size("blocks.0.mlp.fc1.weight", 0)
    sizes: dict[str, int | float] = {
        "embed_dim": width,
        "depth": len({match[1] for name in shapes if (match := _BLOCK.match(name))}),
        "patch_size": patch,
        "num_classes": size("head.weight", 0),
    }
    # An image is cut into whole patches: a rest of it narrower than one leaves no trace in the tensors.
    if side != timm.img_size // timm.patch_size * timm.patch_size:
        sizes["img_size"] = side
    if hidden != int(timm.embed_dim * timm.mlp_ratio):
        sizes["mlp_ratio"] = hidden / max(width, 1)
    return sizes


def _layout(config: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """timm's name of each tensor → its shape in timm's file, its names in transformers' layout on disk."""
    width, hidden, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    tokens = (config["image_size"] // patch) ** 2 + 1
    layout: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
        "cls_token": ((1, 1, width), ("vit.embeddings.cls_token",)),
        "pos_embed": ((1, tokens, width), ("vit.embeddings.position_embeddings",)),
    }

    def add(name: str, shape: tuple[int, ...], *targets: str, bias: bool = True) -> None:
        layout[f"{name}.weight"] = (shape, tuple(f"{target}.weight" for target in targets))
        if bias:
            layout[f"{name}.bias"] = (shape[:1], tuple(f"{target}.bias" for target in targets))

    add("patch_embed.proj", (width, 3, patch, patch), "vit.embeddings.patch_embeddings.projection")
    for index in range(config["num_hidden_layers"]):
        timm, vit = f"blocks.{index}", f"vit.encoder.layer.{index}"
        qkv = [f"{vit}.attention.attention.{part}" for part in ("query", "key", "value")]
        add(f"{timm}.norm1", (width,), f"{vit}.layernorm_before")
        add(f"{timm}.attn.qkv", (3 * width, width), *qkv, bias=config["qkv_bias"])
        add(f"{timm}.attn.proj", (width, width), f"{vit}.attention.output.dense")
        add(f"{timm}.norm2", (width,), f"{vit}.layernorm_after")
        add(f"{timm}.mlp.fc1", (hidden, width), f"{vit}.intermediate.dense")
        add(f"{timm}.mlp.fc2", (width, hidden), f"{vit}.output.dense")
    add("norm", (width,), "vit.layernorm")
    add("head", (len(config["id2label"]), width), "classifier")
    return layout


def _check_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: object
) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        found_out = (("lack", missing), ("hold unexpected", extra))
        parts = [f"{problem} {_some(names)}" for problem, names in found_out if names]
        raise CheckpointError(
            f"{where}: the weights {' and '.join(parts)}: not the timm ViT that config.json describes"
        )
    for name, shape in expected.items():
        if tuple(found[name]) != shape:
            raise CheckpointError(f"{where}: {name} has the shape {tuple(found[name])} in place of {shape}")


def _labels(config: Mapping[str, Any], timm: TimmConfig, where: object) -> list[str]:
    """Class names as timm shows them: ``label_names``, in words where the config has ``label_descriptions``.

    Names are a list, or a table by index that may leave classes out. Without any, 1000 classes have
    ImageNet-1k's.
    """
    count, tables = timm.num_classes, (config, timm.pretrained)

    def first(*keys: str) -> Any:
        return next((table[key] for table in tables for key in keys if table.get(key)), None)

    names, words = first("label_names", "labels"), first("label_descriptions") or {}  # "labels" is older
    if names is None:
        if count == 1000:
            return IMAGENET_LABELS.read_text(encoding="utf-8").splitlines()
        return [f"class {index}" for index in range(count)]
    if not isinstance(words, Mapping) or not isinstance(names, Mapping | list | tuple):
        raise CheckpointError(f"{where}: config.json has label_names that are no table of class names")
    try:
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        by_index = {int(index): name for index, name in pairs}
    except ValueError as error:
        raise CheckpointError(f"{where}: config.json has label_names whose keys are not numbers") from error
    gaps = isinstance(names, Mapping)  # allowed in a table alone
    if not set(by_index) <= set(range(count)) or (len(by_index) != count and not gaps):
        raise CheckpointError(
            f"{where}: config.json has {len(names)} label_names, and the head {count} classes"
        )
    labels = [by_index.get(index, f"class {index}") for index in range(count)]
    if not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{where}: config.json has label_names that are not all text")
    return [words.get(label, label) for label in labels]


def _some(names: Iterable[str]) -> str:
    first, *rest = names
    return f"{first} and {len(rest)} more" if rest else first
