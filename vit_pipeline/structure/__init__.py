"""A model's structure as a table that teaches: every module and every step that never prints, explained.

``print(describe("vit-base"))`` needs no weights; ``compare("vit-base", "vit-small")`` sets two side by side.
Leaves out: the explanations (``roles``), shapes and costs (``measure``), the forward pass over an image
(``trace``), drawing (``render``).
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..checkpoints.config import check_config
from ..errors import ArgumentError
from ..explain import Explanation
from ..loading import load_config
from ..names import DEFAULT_MODEL
from ..pipeline import ViTPipeline
from ..roles import LANGUAGES
from .measure import Cost
from .render import Comparison, ModelStructure
from .rows import Reader, Row, cut, fold
from .trace import Seen, trace

Language = Literal["en", "zh"]
Order = Literal["module", "execution"]

# what of a config changes the structure, in the order in which it is shown
_SETTINGS = (
    "image_size patch_size num_channels hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act layer_norm_eps qkv_bias hidden_dropout_prob attention_probs_dropout_prob num_labels"
).split()


def describe(
    model: Any = DEFAULT_MODEL,
    lang: Language = "en",
    image: Any = None,
    *,
    revision: str | None = None,
    all_layers: bool = False,
    depth: int | None = None,
    order: Order = "execution",
    exactness: bool = False,
) -> ModelStructure:
    """The structure of a model, explained.

    Args:
        model: a name or folder (its config is enough, no weights are read), a ``ViTConfig``, a model (any
            ``nn.Module``: what is no part of a ViT is shown as unknown), or a ``ViTPipeline``.
        lang: language of the explanations, ``"en"`` or ``"zh"``.
        image: trace this image through the model, step by step: anything that ``ViTPipeline.read`` takes
            (for a name or a pipeline), or pixel values (1, 3, H, W), of which only the numbers are shown.
            Needs the weights.
        revision: of the ModelScope repository.
        all_layers: show equal layers one by one instead of folding them.
        depth: how many levels below the model to show; deeper rows are added to the row they belong to.
        order: ``"execution"`` as the data flows (a module that is called twice has two rows), ``"module"`` as
            declared, which is how ``print(model)`` has it.
        exactness: with an image: how far its steps are from what ``model()`` computes there.

    Raises ArgumentError, and for a name what :func:`vit_pipeline.loading.load_config` raises; CheckpointError
    for a config that is no ViT or beyond all bounds.
    """
    if lang not in LANGUAGES:
        raise ArgumentError(f"lang is {lang!r}; use {' or '.join(map(repr, LANGUAGES))}")
    if order not in ("module", "execution"):
        raise ArgumentError(f"order is {order!r}; use 'module' or 'execution'")
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise ArgumentError(f"depth is {depth!r}; an integer of at least 0 is needed, or None for all")
    name, network, pixel_values, explained = _resolve(model, revision, image)
    every = Reader(network, lang, order).rows
    rows = every if all_layers else list(fold(network, every))
    rows = rows if depth is None else list(cut(rows, depth))
    config = getattr(network, "config", None)
    return ModelStructure(
        name=name,
        class_name=type(network).__name__,
        lang=lang,
        order=order,
        library=f"transformers {version('transformers')}",
        settings={key: value for key in _SETTINGS if (value := getattr(config, key, None)) is not None},
        input_shape=rows[0].in_shape,
        output_shape=rows[0].out_shape,
        params=rows[0].params_total,
        cost=rows[0].cost_total,
        rows=tuple(rows),
        not_counted=tuple(dict.fromkeys(row.path for row in every if row.cost is None)),
        steps=() if pixel_values is None else trace(network, every, pixel_values, exactness),
        source=explained.source if explained else "" if pixel_values is None else "pixel_values",
        seen=Seen.of(explained) if explained else None,
    )


def compare(left: Any, right: Any, lang: Language = "en", **options: Any) -> Comparison:
    """Two models side by side.

    Args:
        left: what :func:`vit_pipeline.describe` takes, or a ``ModelStructure``.
        right: the same.
        lang: language of the explanations.
        options: other arguments of ``describe``.

    Raises what ``describe`` raises.
    """
    sides = [s if isinstance(s, ModelStructure) else describe(s, lang, **options) for s in (left, right)]
    return Comparison(*sides)


def _resolve(
    model: Any, revision: str | None, image: Any
) -> tuple[str, nn.Module, torch.Tensor | None, Explanation | None]:
    """Name, network (on the meta device where no weights are needed), pixel values, what was an image."""
    name = str(model) if isinstance(model, str | Path) else ""
    if revision is not None and not name:
        raise ArgumentError(f"revision is {revision!r}, but the model is not a name; leave it out")
    if name and image is not None:
        model = ViTPipeline.from_pretrained(model, revision, device="cpu")
    elif name:
        model = empty_model(load_config(model, revision))
    elif hasattr(model, "model_type") and hasattr(model, "to_json_string"):
        if image is not None:
            raise ArgumentError("a config has no weights to trace an image with; give a name or a model")
        raw = json.loads(model.to_json_string(use_diff=False))  # held to the bounds of one from a file
        check_config({key: raw[key] for key in raw if key != "id2label"}, type(model).__name__)
        model = empty_model(model)
    network = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if not isinstance(network, nn.Module):
        network = getattr(model, "model", None)
        name = name or str(getattr(getattr(model, "provenance", None), "name", ""))
    if not isinstance(network, nn.Module):
        kind = type(model).__name__
        raise ArgumentError(
            f"cannot describe a {kind}; give a model, its name, folder or config, or a pipeline"
        )
    pixels = explained = None
    if isinstance(image, torch.Tensor) and image.ndim == 4:
        pixels = image
        if len(image) != 1:
            raise ArgumentError(f"pixel values are {tuple(image.shape)}; give one image, (1, 3, H, W)")
    elif image is not None:
        if not hasattr(model, "on_torch"):
            raise ArgumentError("a bare model cannot read images; give pixel values or a ViTPipeline")
        explained = model.on_torch().explain(image)
        pixels = explained.pixel_values
    return name or type(network).__name__, network, pixels, explained


def empty_model(config: Any) -> nn.Module:
    """The ViT of a config on the meta device: with a classifier, unless its ``architectures`` lack one."""
    from transformers import ViTForImageClassification, ViTModel

    headless = config.architectures and "ViTForImageClassification" not in config.architectures
    with torch.device("meta"):
        model = ViTModel(config, add_pooling_layer=False) if headless else ViTForImageClassification(config)
    return model.eval()  # type: ignore[no-any-return]


__all__ = ["Comparison", "Cost", "ModelStructure", "Row", "compare", "describe"]
