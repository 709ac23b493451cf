"""What timm's own ``config.json`` says about a ViT; what Hugging Face's ViT cannot compute is refused.

Every setting counts as timm counts it: ``model_args`` before ``pretrained_cfg`` before the architecture's own
numbers. Leaves out: the tensors (``timm_checkpoint``) and the preprocessing recipe (``timm_processor``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError

FAMILIES = "vit_{tiny,small,base,large}_patch{8,16,32}_{224,384}"
_ARCHITECTURE = re.compile(r"vit_(tiny|small|base|large)_patch(8|16|32)_(224|384)")
_SCALES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_MAX_NUMBER = 1_000_000  # no size in any config is larger: stops absurd numbers before arithmetic with them

# What Hugging Face's ViT does not have: in words, in an architecture's name, in a tensor's name.
_FEATURES = tuple(
    (words, re.compile(name), re.compile(tensor))
    for words, name, tensor in (
        ("a distillation token (DeiT)", r"distilled", r"^(dist_token$|head_dist\.)"),
        ("register tokens", r"_reg\d", r"^reg_token"),
        ("SigLIP's attention pooling", r"siglip", r"^attn_pool\."),
        ("CLIP's norm before the layers (pre_norm)", r"clip", r"^norm_pre\."),
        ("mean pooling (fc_norm)", r"_(gap|avg)(_|$)", r"^fc_norm\."),
        ("layer scale", r"layerscale", r"\.(ls[12]\.|gamma_[12]$)"),
        ("normalised queries and keys (qk_norm)", r"qk_?norm", r"\.attn\.[qk]_norm\."),
        ("norms inside attention or MLP", r"subln", r"\.(attn|mlp)\.norm\."),
        ("gated MLPs (SwiGLU)", r"swiglu", r"\.mlp\.(w\d+|fc1_[gx])\."),
        ("rotary position embeddings", r"rope|^eva", r"(^|[._])rope"),
        ("relative position biases", r"relpos|beit", r"rel(ative)?_pos"),
        ("a convolutional stem (hybrid)", r"^vit.*(_r\d+_|_resnet|hybrid)", r"^patch_embed\.backbone\."),
    )
)
# Arguments of timm's constructor that change the model: the value they must have (None: none at all), and
# what another value would mean.
_FIXED_ARGS: dict[str, tuple[object, str]] = {
    "global_pool": ("token", "pooling other than by the class token"),
    "class_token": (True, "a ViT without class token"),
    "no_embed_class": (False, "position embeddings without the class token"),
    "pos_embed": ("learn", "position embeddings of another kind"),
    "reg_tokens": (0, "register tokens"),
    "init_values": (None, "layer scale"),
    "qk_norm": (False, "normalised queries and keys"),
    "scale_attn_norm": (False, "a norm inside attention"),
    "scale_mlp_norm": (False, "a norm inside the MLP"),
    "pre_norm": (False, "CLIP's norm before the layers"),
    "final_norm": (True, "a ViT without its last norm"),
    "fc_norm": (False, "a norm after pooling"),
    "proj_bias": (True, "projections without bias"),
    "dynamic_img_size": (False, "images of any size"),
    "dynamic_img_pad": (False, "images of any size"),
    "strict_img_size": (True, "images of any size"),
    "use_naflex": (False, "images of any size (NaFlex)"),
    "features_only": (False, "a model without classifier"),
    "act_layer": ("gelu", "another activation function"),
    "norm_layer": ("layernorm", "another norm"),
    "mlp_layer": (None, "another MLP"),
    "embed_layer": (None, "another patch embedding"),
    "embed_norm_layer": (None, "a norm in the patch embedding"),
    "attn_layer": (None, "another attention"),
    "block_fn": (None, "another block"),
}
_POOLS = {
    "avg": "mean pooling",
    "max": "max pooling",
    "avgmax": "mean and max pooling",
    "map": "attention pooling",
}
_SIZE_ARGS = frozenset(
    "embed_dim depth num_heads mlp_ratio patch_size img_size in_chans num_classes qkv_bias".split()
)
# Dropout, initialisation and how timm was called: nothing of it is left in inference.
_HARMLESS_ARGS = frozenset(
    """
    drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate weight_init fix_init
    pool_include_prefix scriptable exportable no_jit pretrained_strict
    """.split()
)


@dataclass(frozen=True)
class TimmConfig:
    """One ViT as its config describes it: widths in channels, images and patches in pixels a side."""

    architecture: str
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    patch_size: int
    img_size: int
    num_classes: int
    qkv_bias: bool
    #: ``pretrained_cfg``: where the recipe and the class names stand
    pretrained: Mapping[str, Any]
    #: setting → the part of the config that it was read from
    source: Mapping[str, str]


def is_timm_config(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is timm's own: it names one ``architecture`` and no ``model_type``."""
    return isinstance(config.get("architecture"), str) and "model_type" not in config


def read_timm_config(config: Mapping[str, Any], where: object) -> TimmConfig:
    """timm's ``config.json`` of a plain ViT classifier; ``where`` names the checkpoint in messages.

    timm's first hub releases wrote one flat table, which then is ``pretrained_cfg`` itself. Arguments that
    are null count as not given, as they do in timm.

    Raises:
        CheckpointError: another architecture, an argument that changes the model, or a size that is none.
    """

    def refuse(reason: str) -> CheckpointError:
        return CheckpointError(f"{where}: config.json {reason}")

    pretrained, args = config.get("pretrained_cfg", config), config.get("model_args") or {}
    for name, table in (("pretrained_cfg", pretrained), ("model_args", args)):
        if not isinstance(table, Mapping):
            raise refuse(f"has a {name} that is not a table; download it again")
    args = {key: value for key, value in args.items() if value is not None}
    architecture = config["architecture"]
    match = _ARCHITECTURE.fullmatch(architecture)
    if match is None:
        words = next(
            (words for words, name, _ in _FEATURES if name.search(architecture)), "a model of another kind"
        )
        raise unsupported(where, words, f"architecture {architecture!r}")
    _refuse_args(config, pretrained, args, where)

    width, depth, heads = _SCALES[match[1]]
    values: dict[str, Any] = {"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": 4.0}
    values |= {"patch_size": int(match[2]), "img_size": int(match[3]), "num_classes": 1000, "in_chans": 3}
    source = dict.fromkeys(values, architecture)
    for name, given in (
        ("pretrained_cfg", _input_size(pretrained, where) | _pick(pretrained, ["num_classes"])),
        ("config.json", _pick(config, ["num_classes"])),
        ("model_args", _pick(args, values)),
    ):
        values |= given
        source |= dict.fromkeys(given, name)

    if values["in_chans"] != 3:
        raise unsupported(where, "an image without 3 colour channels", f"in_chans is {values['in_chans']!r}")
    for name in ("img_size", "patch_size"):
        values[name] = _side(values[name], name, where)
    for name in ("embed_dim", "depth", "num_heads", "img_size", "patch_size", "num_classes"):
        value, low = values[name], 0 if name == "num_classes" else 1
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= _MAX_NUMBER:
            raise refuse(f"has {name} {value!r}; allowed: {low} to {_MAX_NUMBER:,}")
    ratio, qkv_bias = values["mlp_ratio"], args.get("qkv_bias", True)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1000:
        raise refuse(f"has mlp_ratio {ratio!r}; allowed: above 0 to 1,000")
    if not isinstance(qkv_bias, bool):
        raise refuse(f"has qkv_bias {qkv_bias!r}; allowed: true or false")
    if values["embed_dim"] % values["num_heads"]:
        raise refuse(f"has embed_dim {values['embed_dim']}, which {values['num_heads']} heads do not divide")
    if values["num_classes"] == 0:
        raise refuse(
            "describes a model without classifier (num_classes is 0); use one that was tuned to classify"
        )
    del values["in_chans"]
    return TimmConfig(architecture, **values, qkv_bias=qkv_bias, pretrained=pretrained, source=source)


def refuse_features(names: Iterable[str], where: object) -> None:
    """CheckpointError if a tensor's name belongs to a part that Hugging Face's ViT does not have."""
    for name in names:
        for words, _, tensor in _FEATURES:
            if tensor.search(name):
                raise unsupported(where, words, f"the tensor {name}")


def unsupported(where: object, words: str, evidence: str) -> CheckpointError:
    """The error for a model that may be sound, and that Hugging Face's ViT cannot compute."""
    return CheckpointError(
        f"{where}: not supported: {words} ({evidence}); use a plain timm ViT with class token: {FAMILIES}"
    )


def _refuse_args(
    config: Mapping[str, Any], pretrained: Mapping[str, Any], args: Mapping[str, Any], where: object
) -> None:
    unknown = sorted(set(args) - set(_FIXED_ARGS) - _SIZE_ARGS - _HARMLESS_ARGS)
    if unknown:
        raise unsupported(where, f"the setting {unknown[0]!r}", "unknown, in model_args")
    top = _pick(config, ["global_pool"])
    for table_name, table in (("model_args", args), ("pretrained_cfg", pretrained), ("config.json", top)):
        for name, (value, words) in _FIXED_ARGS.items():
            if table.get(name) is not None and (value is None or table[name] != value):
                words = _POOLS.get(str(table[name]), words) if name == "global_pool" else words
                raise unsupported(where, words, f"{name} is {table[name]!r} in {table_name}")
    if pretrained.get("label_offset"):
        raise unsupported(where, "classes to skip", f"label_offset is {pretrained['label_offset']!r}")


def _pick(table: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: table[name] for name in names if table.get(name) is not None}


def _input_size(pretrained: Mapping[str, Any], where: object) -> dict[str, Any]:
    size = pretrained.get("input_size")
    if size is None:
        return {}
    if not isinstance(size, list | tuple) or len(size) != 3:
        raise CheckpointError(f"{where}: config.json has input_size {size!r}; it must be [3, height, width]")
    return {"in_chans": size[0], "img_size": list(size[1:])}


def _side(value: object, name: str, where: object) -> Any:
    """One side of a square: timm writes ``[224, 224]`` or ``224``."""
    if isinstance(value, list | tuple):
        if len(value) != 2 or value[0] != value[1]:
            raise unsupported(where, f"{name} that is not square", f"{name} is {value!r}")
        return value[0]
    return value
