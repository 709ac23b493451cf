"""A timm ViT checkpoint as transformers' ViT, where its config and its tensors prove that it is one.

The config's sizes become a ``config.json`` of transformers, against which ``tensors`` holds the weights. The
number of heads leaves no trace in the weights, so the architecture's name must be one of those in
``rules.toml``. Leaves out: preprocessing (``timm_processor``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..names import IMAGENET_LABELS
from .files import RULES
from .tensors import StoredTensor

if TYPE_CHECKING:
    import torch

_RULES = RULES["timm"]
_ARCHITECTURE = re.compile(
    rf"(?:(?:vit|deit3?)_({'|'.join(_RULES['scales'])})_patch(\d{{1,3}})(?:_(\d{{2,4}}))?|test_vit)"
    r"(?:_miil|_dinov2|_dino|_in21k|_in21ft1k)*"
)
_LAYER_NORM_EPS = 1e-6  # timm's; transformers' ViT has 1e-12, and its logits then differ by 3e-6
_BLOCK = re.compile(r"blocks\.(0|[1-9]\d*)\.(.+)\.(weight|bias)")


def is_timm_config(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is timm's own: it names one ``architecture`` and no ``model_type``."""
    return isinstance(config.get("architecture"), str) and "model_type" not in config


def read_timm_config(config: Mapping[str, Any], where: object) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """A plain ViT's settings by timm's names, and the ``pretrained_cfg``, which holds the preprocessing.

    ``model_args`` come before ``pretrained_cfg`` and that before the numbers of the architecture's name.
    timm's first hub releases wrote one flat table, which then is ``pretrained_cfg`` itself. Arguments that
    are null count as not given, as in timm.

    Raises CheckpointError for what transformers' ViT cannot compute, and for a size that is none.
    """
    pretrained, args = config.get("pretrained_cfg", config), config.get("model_args") or {}
    for name, table in (("pretrained_cfg", pretrained), ("model_args", args)):
        if not isinstance(table, Mapping):
            raise CheckpointError(f"{where}: config.json has a {name} that is not a table; download it again")
    args = {key: value for key, value in args.items() if value is not None}
    architecture = config["architecture"]
    match = _ARCHITECTURE.fullmatch(architecture)
    if match is None:
        known = [part["words"] for part in _RULES["features"] if re.search(part["name"], architecture)]
        raise unsupported(where, (*known, "a model of another kind")[0], f"architecture {architecture!r}")
    if unknown := sorted(set(args) - set(_RULES["fixed"]) - set(_RULES["understood"].split())):
        raise unsupported(where, f"the setting {unknown[0]!r}", "unknown, in model_args")
    for table in (args, pretrained, {"global_pool": config.get("global_pool")}):
        for name, rule in _RULES["fixed"].items():
            if table.get(name) is not None and ("value" not in rule or table[name] != rule["value"]):
                words = "average pooling" if table[name] == "avg" else rule["words"]
                raise unsupported(where, words, f"{name} is {table[name]!r}")

    scale, patch, side = match.groups()
    names = ("embed_dim", "depth", "num_heads", "mlp_ratio")
    sizes = dict(zip(names, _RULES["scales"][scale or "test_vit"], strict=True)) | {
        "patch_size": int(patch or 16),
        "img_size": int(side or 224),
        "num_classes": 1000,
        "in_chans": 3,
        "qkv_bias": "_miil" not in architecture,
        "init_values": architecture.startswith("deit3") or "_dinov2" in architecture,
        "no_embed_class": architecture.startswith("deit3"),
    }
    if (shape := pretrained.get("input_size")) is not None:
        if not isinstance(shape, list | tuple) or len(shape) != 3:
            raise CheckpointError(f"{where}: config.json has input_size {shape!r}, not [3, height, width]")
        sizes |= {"in_chans": shape[0], "img_size": list(shape[1:])}
    for table in (pretrained, config):
        sizes |= {"num_classes": table["num_classes"]} if table.get("num_classes") is not None else {}
    sizes |= {name: value for name, value in args.items() if name in sizes}
    for name in ("img_size", "patch_size"):
        if isinstance(value := sizes[name], list | tuple):
            if len(value) != 2 or value[0] != value[1]:
                raise unsupported(where, f"{name} that is not square", f"{name} is {value!r}")
            sizes[name] = value[0]
    for name, value in sizes.items():
        kind = int | float if name in ("mlp_ratio", "init_values") else int
        if not isinstance(value, kind) or not 0 <= value <= 100_000:
            raise CheckpointError(f"{where}: config.json has {name} {value!r}, which no model has")
    return sizes, pretrained


def to_transformers_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """The same model as a transformers ``config.json``. Raises what :func:`read_timm_config` raises."""
    sizes, pretrained = read_timm_config(config, where)
    result = {name: sizes[timms] for name, timms in _RULES["config"].items()} | {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification" if sizes["num_classes"] else "ViTModel"],
        "intermediate_size": int(sizes["embed_dim"] * sizes["mlp_ratio"]),
        "layer_norm_eps": _LAYER_NORM_EPS,
    }
    if sizes["num_classes"]:
        result["id2label"] = _labels(sizes["num_classes"], (config, pretrained), where)
    return result


def to_transformers_tensors(
    tensors: Mapping[str, StoredTensor], config: Mapping[str, Any], where: object
) -> dict[str, StoredTensor]:
    """The weights under the names of transformers' layout on disk; a name that a plain ViT has not stays.

    LayerScale is folded into the linear layer before it; position embeddings without the class token's row
    get one of zeros. Neither changes the result. Raises CheckpointError for parts that ViT does not have.
    """
    from torch.nn.functional import pad

    for name in tensors:
        for part in _RULES["features"]:
            if re.search(part["tensor"], name):
                raise unsupported(where, part["words"], f"the tensor {name}")
    sizes, _ = read_timm_config(config, where)
    inside, elsewhere, scaled_by = _RULES["in_blocks"], _RULES["elsewhere"], _RULES["scaled_by"]
    state: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        block = _BLOCK.fullmatch(name)
        if name in elsewhere:
            state[elsewhere[name]] = tensor
        elif stem in elsewhere:
            state[f"{elsewhere[stem]}.{kind}"] = tensor
        elif block and block[2] in inside:
            if sizes["init_values"] and block[2] in scaled_by:
                gamma = tensors.get(f"blocks.{block[1]}.{scaled_by[block[2]]}")
                if gamma is None or gamma.shape != tensor.shape[:1]:
                    raise CheckpointError(f"{where}: the weights lack the layer scale of {name}")
                tensor = tensor.changed(tensor.shape, partial(_scaled, gamma))
            targets = inside[block[2]]
            if tensor.shape and tensor.shape[0] % len(targets) == 0:  # (3·D, …) → three of (D, …)
                shape = (tensor.shape[0] // len(targets), *tensor.shape[1:])
                for index, target in enumerate(targets):
                    part = tensor.changed(shape, partial(_part, index, len(targets)))
                    state[f"vit.encoder.layer.{block[1]}.{target}.{kind}"] = part
        elif not (sizes["init_values"] and name.endswith(tuple(scaled_by.values()))):
            state[name] = tensor
    positions = tensors.get("pos_embed")
    if sizes["no_embed_class"] and positions and len(positions.shape) == 3:  # (1, N, D) → (1, 1 + N, D)
        shape = (1, positions.shape[1] + 1, positions.shape[2])
        state[elsewhere["pos_embed"]] = positions.changed(shape, lambda t: pad(t, (0, 0, 1, 0)))
    return state


def _part(index: int, count: int, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.chunk(count)[index]


def _scaled(gamma: StoredTensor, weight: torch.Tensor) -> torch.Tensor:
    return weight.float() * gamma.read().float().reshape(-1, *[1] * (weight.ndim - 1))  # (D, H) or (D,)


def unsupported(where: object, words: str, evidence: str) -> CheckpointError:
    """The error for a model that may be sound, and that transformers' ViT cannot compute."""
    return CheckpointError(
        f"{where}: not supported: {words} ({evidence}); use a plain timm ViT with class token, such as "
        "vit_{tiny,small,base,large}_patch{8,16,32}_{224,384} or deit_base_patch16_224"
    )


def _labels(count: int, tables: tuple[Mapping[str, Any], ...], where: object) -> dict[int, Any]:
    """Class names as timm shows them: ``label_names``, in words where the config has ``label_descriptions``.

    Names are a list, or a table by index that may leave classes out. Without any, 1000 classes have
    ImageNet-1k's.
    """

    def first(*keys: str) -> Any:
        return next((table[key] for table in tables for key in keys if table.get(key)), None)

    names, words = first("label_names", "labels"), first("label_descriptions") or {}  # "labels" is older
    if names is None and count == 1000:
        return dict(enumerate(IMAGENET_LABELS.read_text(encoding="utf-8").splitlines()))
    try:
        if isinstance(names, list):
            labels = dict(enumerate(names))
        else:
            labels = {index: f"class {index}" for index in range(count)}
            labels |= {int(index): name for index, name in (names or {}).items()}
        return {index: words.get(name, name) for index, name in labels.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: config.json has label_names that are no table of names") from error
