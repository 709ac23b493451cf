"""A config.json or preprocessor_config.json, checked before any of it is believed.

It becomes the keyword arguments of ``ViTConfig`` or of an image processor only if every key is known and
every value sane. Leaves out: the weights (``checkpoint``), timm's layout (``timm_checkpoint``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

MAX_CONFIG_BYTES = 16 * 2**20  # a config with 21,843 class names has about 2 MB
MAX_TOKENS = 16_385  # 2048×2048 pixels in patches of 16, and CLS

# Sizes: name → (smallest, largest). ViT-22B (Dehghani et al. 2023) has 48 layers of width 6144.
_BOUNDS = {
    "num_hidden_layers": (1, 128),
    "hidden_size": (1, 16_384),
    "intermediate_size": (1, 65_536),
    "num_attention_heads": (1, 256),
    "num_channels": (3, 3),
    "image_size": (1, 4096),
    "patch_size": (1, 1024),
}
_DEFAULTS: dict[str, Any] = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
}
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish")

# Keys that releases of transformers have written into a ViT's config and that change nothing here.
_IGNORED = frozenset(
    """
    architectures transformers_version dtype torch_dtype return_dict return_dict_in_generate use_return_dict
    output_hidden_states output_attentions output_scores use_cache torchscript use_bfloat16 tf_legacy_loss
    tie_word_embeddings tie_encoder_decoder chunk_size_feed_forward is_encoder_decoder is_decoder
    cross_attention_hidden_size add_cross_attention max_length min_length do_sample early_stopping num_beams
    num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens forced_bos_token_id
    forced_eos_token_id finetuning_task task_specific_params tokenizer_class prefix bos_token_id pad_token_id
    eos_token_id sep_token_id decoder_start_token_id gradient_checkpointing encoder_stride pooler_act
    pooler_output_size problem_type label2id num_labels model_type id2label pruned_heads
    """.split()
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most ``MAX_CONFIG_BYTES``. Raises CheckpointError for anything else."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES >> 20} MiB")
        value = json.loads(text)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent}: {path.name} is missing: this is not a whole checkpoint"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON file ({error}); download the checkpoint again") from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path}: holds a {type(value).__name__}, not an object; download the checkpoint again"
        )
    return value


def check_config(raw: Mapping[str, Any], where: object) -> dict[str, Any]:
    """The keyword arguments for ``ViTConfig`` in a transformers config, or CheckpointError.

    ``where`` names the checkpoint in messages. Only known keys are passed on, so nothing in the file can
    choose code: ``auto_map``, quantisation and attention kernels are refused with every other unknown key.
    """

    def refuse(reason: str) -> CheckpointError:
        return CheckpointError(f"{where}: config.json {reason}")

    if raw.get("model_type") != "vit":
        kind = raw.get("model_type") or raw.get("architecture")
        raise refuse(
            f"describes {kind!r}, not a ViT (model_type 'vit'); this package runs ViT image classifiers"
        )
    if "auto_map" in raw:
        raise refuse("asks for code of its own (auto_map), which is never run; use a checkpoint without it")
    unknown = sorted(k for k in raw if k not in _DEFAULTS and k not in _IGNORED and not _is_private(k))
    if unknown or raw.get("pruned_heads"):
        names = ", ".join(unknown[:5]) if unknown else "pruned_heads"
        raise refuse(
            f"has settings that a ViT does not have ({names}): they could change the model; not loaded"
        )

    config = {key: raw.get(key, default) for key, default in _DEFAULTS.items()}
    for key, (low, high) in _BOUNDS.items():
        for value in config[key] if key.endswith("_size") and _is_pair(config[key]) else [config[key]]:
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                allowed = f"{low}" if low == high else f"{low} to {high:,}"
                raise refuse(f"has {key} {value!r}; allowed: {allowed}")
    for key in ("layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"):
        number = config[key]
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise refuse(f"has {key} {number!r}; allowed: 0 to 1")
    if not isinstance(config["qkv_bias"], bool):
        raise refuse(f"has qkv_bias {config['qkv_bias']!r}; allowed: true or false")
    if config["hidden_act"] not in _ACTIVATIONS:
        raise refuse(f"has hidden_act {config['hidden_act']!r}; allowed: {', '.join(_ACTIVATIONS)}")
    if config["hidden_size"] % config["num_attention_heads"]:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        raise refuse(f"has hidden_size {width}, which {heads} heads do not divide")
    (height, width), (patch_height, patch_width) = pair(config["image_size"]), pair(config["patch_size"])
    if height < patch_height or width < patch_width:
        raise refuse(f"has patch_size {config['patch_size']} larger than image_size {config['image_size']}")
    if num_tokens(config) > MAX_TOKENS:
        raise refuse(f"asks for {num_tokens(config):,} tokens an image; allowed: {MAX_TOKENS:,}")
    problem = raw.get("problem_type")
    if problem not in (None, "single_label_classification", "multi_label_classification"):
        raise refuse(f"has problem_type {problem!r}: not a classifier")
    labels = _labels(raw, refuse)
    return config | {
        "problem_type": problem,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _labels(raw: Mapping[str, Any], refuse: Callable[[str], CheckpointError]) -> list[str]:
    """The class names, by index: as many as ``id2label`` has, 0 … n-1, and in line with ``label2id``."""
    names = raw.get("id2label")
    if names is None:
        count = raw.get("num_labels", 2)  # transformers' own default
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 100_000:
            raise refuse(f"has num_labels {count!r}; allowed: 1 to 100,000")
        return [f"LABEL_{index}" for index in range(count)]
    if not isinstance(names, Mapping) or not 1 <= len(names) <= 100_000:
        raise refuse("has an id2label that is not a table of 1 to 100,000 class names")
    try:
        by_index = {int(index): name for index, name in names.items()}
    except (TypeError, ValueError) as error:
        raise refuse("has an id2label whose keys are not numbers") from error
    gap = next((index for index in range(len(names)) if index not in by_index), None)
    if gap is not None:
        raise refuse(f"has {len(names)} names in id2label but none for class {gap}")
    labels = [by_index[index] for index in range(len(by_index))]
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label or len(label) > 1000 or not label.isprintable():
            raise refuse(f"has a name for class {index} that is not a line of text")
    ids = raw.get("label2id")
    if isinstance(ids, Mapping) and ids and set(ids) != {f"LABEL_{i}" for i in range(len(ids))}:
        as_text = {str(index): label for index, label in by_index.items()}  # JSON has either
        for label, index in ids.items():
            if as_text.get(str(index)) != label:
                raise refuse(f"contradicts itself: label2id has {label!r} at {index}, id2label has not")
        lost = next((label for label in labels if label not in ids), None)
        if lost is not None:
            raise refuse(f"contradicts itself: id2label has {lost!r}, label2id has not")
    return labels


def check_processor(raw: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A transformers ``preprocessor_config.json`` with sane values, or CheckpointError."""

    def refuse(reason: str) -> CheckpointError:
        return CheckpointError(f"{where}: preprocessor_config.json {reason}")

    if "auto_map" in raw:
        raise refuse("asks for code of its own (auto_map), which is never run; use a checkpoint without it")
    for key in ("size", "crop_size"):
        value = raw.get(key)
        if value is None and key in raw:
            continue
        for side in value.values() if isinstance(value, Mapping) else [value] if key in raw else []:
            if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= 4096:
                raise refuse(f"has {key} {value!r}; allowed: 1 to 4,096 pixels")
    for key in ("image_mean", "image_std"):
        value = raw.get(key)
        if value is not None and not (_is_numbers(value, 3) and (key != "image_std" or all(value))):
            raise refuse(f"has {key} {value!r}; three finite numbers are needed")
    if not isinstance(raw.get("resample", 2), int) or not 0 <= raw.get("resample", 2) <= 5:
        raise refuse(f"has resample {raw['resample']!r}; allowed: 0 to 5, Pillow's filters")
    factor = raw.get("rescale_factor", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= 1:
        raise refuse(f"has rescale_factor {factor!r}; allowed: above 0, at most 1")
    return dict(raw)


def num_tokens(config: Mapping[str, Any]) -> int:
    """Patches and the CLS token: (H / P) · (W / P) + 1."""
    (height, width), (patch_height, patch_width) = pair(config["image_size"]), pair(config["patch_size"])
    return (height // patch_height) * (width // patch_width) + 1


def _is_private(key: str) -> bool:
    return key in ("_name_or_path", "_commit_hash", "_num_labels", "_attn_implementation_autoset")


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def pair(size: Any) -> tuple[int, int]:
    """(height, width) of a size given as one number or two."""
    return (size[0], size[1]) if _is_pair(size) else (size, size)


def _is_numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    )
