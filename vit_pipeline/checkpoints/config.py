"""A config.json becomes transformers' own ViTConfig, within bounds that keep a hostile one cheap.

Types are checked by transformers' strict config, shapes by ``tensors``. What ViT does not read is ignored and
noted. Leaves out: what timm's settings mean (``timm``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import GenerationConfig, ViTConfig
from transformers.activations import ACT2FN

from ..errors import CheckpointError, printable
from .files import CONFIG, RULES
from .timm import is_timm_config, to_transformers_config

MAX_TOKENS = 16_385  # 2048×2048 pixels in patches of 16, and CLS
MAX_CLASSES = 100_000
_FAMILIES = ("vit", "vit_mae")  # the encoder of an MAE checkpoint is a ViT's
_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


def check_config(raw: Mapping[str, Any], where: object) -> ViTConfig:
    """The ViTConfig that a ``config.json`` describes, transformers' or timm's.

    Only what ViT reads is passed on, so nothing in the file can choose code.

    Args:
        raw: the JSON object.
        where: the checkpoint, as messages name it.

    Raises:
        CheckpointError: another architecture, a setting that cannot be followed, a value of another type or
            out of bounds.
    """

    def invalid(reason: str) -> CheckpointError:
        return CheckpointError(f"{where}: {CONFIG} {reason}")

    if is_timm_config(raw):
        raw = to_transformers_config(raw, where)
    names = raw["architectures"] if isinstance(raw.get("architectures"), list) else None
    family = raw.get("model_type") or ("vit" if names == ["ViTForImageClassification"] else names)
    if family not in _FAMILIES:
        raise invalid(f"describes {family!r}, not a ViT (model_type 'vit'); this package runs ViT models")
    for key, reason in RULES["rejected"].items():
        if raw.get(key) or (raw.get(key) is not None and key == "quantization_config"):
            raise invalid(f"has {key}: it {reason}")
    settings = {key: raw[key] for key in (*ViTConfig.__annotations__, "head_dim") if key in raw}
    for key, (low, high) in RULES["bounds"].items():
        value = settings.get(key, low)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and not low <= number <= high:
                raise invalid(f"has {key} {value!r}; allowed: {f'{low} to {high:,}' if low < high else low}")
    settings["problem_type"] = raw.get("problem_type") if raw.get("problem_type") in _PROBLEMS else None
    for key in ("_attn_implementation", "attn_implementation"):
        if raw.get(key) in ("eager", "sdpa"):  # anything else could name code to download
            settings["attn_implementation"] = raw[key]
    if isinstance(raw.get("function_to_apply"), str):
        settings["function_to_apply"] = raw["function_to_apply"]
    labels = _labels(raw, invalid)
    ids = {label: index for index, label in labels.items()}
    try:
        config = ViTConfig(architectures=names, id2label=labels, label2id=ids, **settings)
    except Exception as error:  # the strict config raises errors of its own
        reason = str(error).rpartition("Error: ")[2]
        raise invalid(f"is no ViT's: {printable(reason, 150)}") from error
    for key, value in vars(config).items():
        if isinstance(value, float) and not 0 <= value <= 1:
            raise invalid(f"has {key} {value!r}; allowed: 0 to 1")
    if config.hidden_act not in ACT2FN:
        raise invalid(f"has hidden_act {config.hidden_act!r}, which transformers does not know")
    width, heads = config.hidden_size, config.num_attention_heads
    if width % heads and "head_dim" not in settings:
        raise invalid(f"has hidden_size {width}, which {heads} heads do not divide")
    image, patch = config.image_size, config.patch_size
    if len(pair(image)) != 2 or len(pair(patch)) != 2:
        raise invalid(f"has image_size {image} and patch_size {patch}: not one or two")
    if not 2 <= (tokens := num_tokens(config)) <= MAX_TOKENS:
        raise invalid(
            f"cuts {image} pixels into patches of {patch}: {tokens:,} tokens an image; "
            f"allowed: 2 to {MAX_TOKENS:,}"
        )
    return config


def ignored_settings(raw: Mapping[str, Any], config: ViTConfig) -> list[str]:
    """The keys of a ``config.json`` that mean nothing to transformers' ViT."""
    known = (config, GenerationConfig())  # older releases wrote the second into every config
    given = {key for key, value in raw.items() if value not in (None, False) and not key.startswith("_")}
    given -= {"torch_dtype", "attn_implementation"}  # dtype, _attn_implementation
    return sorted(key for key in given if not any(hasattr(one, key) for one in known))


def num_tokens(config: ViTConfig) -> int:
    """Patches and the CLS token: (H / P) · (W / P) + 1."""
    (height, width), (patch_height, patch_width) = pair(config.image_size), pair(config.patch_size)
    return (height // patch_height) * (width // patch_width) + 1


def pair(size: Any) -> tuple[int, ...]:
    """(height, width) of a size given as one number or two."""
    return tuple(size) if isinstance(size, list | tuple) else (size, size)


def _labels(raw: Mapping[str, Any], invalid: Callable[[str], CheckpointError]) -> dict[int, str]:
    """The class names, 0 … n-1. ``id2label`` alone decides; without it they are LABEL_i."""
    names, count = raw.get("id2label"), raw.get("num_labels") or 2  # transformers' own default
    if names is None:
        if not isinstance(count, int) or not 1 <= count <= MAX_CLASSES:
            raise invalid(f"has num_labels {count!r}; allowed: 1 to {MAX_CLASSES:,}")
        return {index: f"LABEL_{index}" for index in range(count)}
    if not isinstance(names, Mapping) or not 1 <= len(names) <= MAX_CLASSES:
        raise invalid(f"has an id2label that is not a table of 1 to {MAX_CLASSES:,} class names")
    try:
        by_index = {int(index): name for index, name in names.items()}
    except (TypeError, ValueError) as error:
        raise invalid("has an id2label whose keys are not numbers") from error
    for index in range(len(names)):
        if not isinstance(by_index.get(index), str | int | float):
            raise invalid(f"has {len(names)} names in id2label, but none for class {index}")
    return {index: str(by_index[index]) for index in range(len(names))}
