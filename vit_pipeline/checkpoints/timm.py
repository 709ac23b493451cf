"""A timm ViT checkpoint as transformers' ViT, where its config and its tensors prove that it is one.

Its sizes become a ``config.json`` of transformers, against which ``tensors`` holds the weights, and its
evaluation transform becomes a ``preprocessor_config.json``. The number of heads leaves no trace in the
weights, so the architecture's name must be one of those in ``rules.toml``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import pad

from ..errors import CheckpointError
from ..names import IMAGENET_LABELS
from .files import CENTER_CROP_OFFSET, RULES

_RULES = RULES["timm"]
_ARCHITECTURE = re.compile(
    rf"(?:(?:vit|deit3?)_({'|'.join(_RULES['scales'])})_patch(\d{{1,3}})(?:_(\d{{2,4}}))?|test_vit)"
    r"(?:_miil|_dinov2|_dino|_in21k|_in21ft1k)*"
)
_SCALED = re.compile(r"(blocks\.\d+\.)(attn\.proj|mlp\.fc2)\.(?:weight|bias)")
_LAYER_NORM_EPS = 1e-6  # timm's; transformers' ViT has 1e-12, and its logits then differ by 3e-6
_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # timm's names are Pillow's


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

    def invalid(name: str, value: Any, reason: str) -> CheckpointError:
        return CheckpointError(f"{where}: config.json has {name} {value!r}, {reason}")

    pretrained, args = config.get("pretrained_cfg", config), config.get("model_args") or {}
    for name, table in (("pretrained_cfg", pretrained), ("model_args", args)):
        if not isinstance(table, Mapping):
            raise invalid(name, table, "not a table; download it again")
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
    sizes = _RULES["scales"][scale or "test_vit"] | {
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
            raise invalid("input_size", shape, "not [3, height, width]")
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
            raise invalid(name, value, "which no model has")
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
        result["id2label"] = _labels(sizes["num_classes"], (pretrained, config), where)
    return result


def to_transformers_tensors(
    tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], where: object
) -> dict[str, torch.Tensor]:
    """The weights under transformers' names on disk; a name that a plain ViT has not stays.

    LayerScale (Touvron et al. 2021, "Going deeper with image transformers", section 2) is folded into the
    linear layer before it; position embeddings without the class token's row get one of zeros. Neither
    changes the result. Raises CheckpointError for parts that ViT does not have.
    """
    for name in tensors:
        for part in _RULES["features"]:
            if re.search(part["tensor"], name):
                raise unsupported(where, part["words"], f"the tensor {name}")
    sizes, _ = read_timm_config(config, where)
    result: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        scaled = _SCALED.fullmatch(name)
        if sizes["init_values"] and name.endswith((".ls1.gamma", ".ls2.gamma")):
            continue
        if sizes["init_values"] and scaled:
            gamma = tensors.get(f"{scaled[1]}{_RULES['scaled_by'][scaled[2]]}")
            if gamma is None or gamma.shape != tensor.shape[:1]:
                raise CheckpointError(f"{where}: the weights lack the layer scale of {name}")
            tensor = tensor.float() * gamma.float().reshape(-1, *[1] * (tensor.ndim - 1))  # (D, H) or (D,)
        if name == "pos_embed" and sizes["no_embed_class"] and tensor.ndim == 3:
            tensor = pad(tensor, (0, 0, 1, 0))  # (1, N, D) → (1, 1 + N, D)
        for pattern, new in _RULES["names"].items():
            name = re.sub(pattern, new, name)
        if "{}" in name and tensor.ndim:  # (3·D, …) → three of (D, …)
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=False)
            result |= {name.replace("{}", part): piece for part, piece in parts}
        else:
            result[name] = tensor
    return result


def to_processor_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """timm's evaluation transform as a ``preprocessor_config.json``, equal to it to the pixel.

    Plain transformers reads it too, and then rounds the crop's offset down. Raises CheckpointError for what
    cannot be expressed; numbers are checked where the processor is made.
    """
    sizes, pretrained = read_timm_config(config, where)
    settings = _RULES["preprocessing"] | {key: value for key, value in pretrained.items() if value}
    crop_pct, mode, interpolation = settings["crop_pct"], settings["crop_mode"], settings["interpolation"]
    if mode not in ("center", "squash"):
        raise unsupported(where, f"crop_mode {mode!r}", "only 'center' and 'squash' are")
    if interpolation not in _FILTERS:
        raise unsupported(where, f"interpolation {interpolation!r}", f"only {', '.join(_FILTERS)} are")
    if isinstance(crop_pct, bool) or not isinstance(crop_pct, int | float) or not 0.1 <= crop_pct <= 2:
        raise CheckpointError(f"{where}: config.json has crop_pct {crop_pct!r}; allowed: 0.1 to 2")
    side = sizes["img_size"]
    edge = math.floor(side / crop_pct)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": edge} if mode == "center" else {"height": edge, "width": edge},
        "resample": int(Image.Resampling[interpolation.upper()]),
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": settings["mean"],
        "image_std": settings["std"],
        **CENTER_CROP_OFFSET,
    }


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
    settings = {key: value for table in tables for key, value in table.items() if value}
    names = settings.get("label_names") or settings.get("labels")  # the second is older
    words = settings.get("label_descriptions") or {}
    if not names and count == 1000:
        return dict(enumerate(IMAGENET_LABELS.read_text(encoding="utf-8").splitlines()))
    try:
        if isinstance(names, list):
            names = dict(enumerate(names))
        else:
            given = {int(index): name for index, name in (names or {}).items()}
            names = {index: f"class {index}" for index in range(count)} | given
        return {index: words.get(name, name) for index, name in names.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: config.json has label_names that are no table of names") from error
