"""A model's structure as a table that teaches: every module and every step that never prints, explained.

``print(describe("vit-base"))`` needs no weights. Leaves out: the explanations (``roles``), shapes and costs
(``measure``), the forward pass over an image (``trace``), drawing (``render``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console, ConsoleOptions, RenderableType
from torch import nn

from ..errors import ArgumentError
from ..names import DEFAULT_MODEL
from ..roles import LANGUAGES
from . import render
from .measure import Cost
from .rows import Row, Tree, flat
from .trace import Step, trace

Language = Literal["en", "zh"]
Order = Literal["module", "execution"]

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
# what of a config changes the structure, in the order in which it is shown
_SETTINGS = (
    "image_size patch_size num_channels hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act layer_norm_eps qkv_bias hidden_dropout_prob attention_probs_dropout_prob num_labels"
).split()


@dataclass(frozen=True)
class ModelStructure(render.Shown):
    """A model's structure. ``print`` it, or take ``to_dict()``, ``to_markdown()``, ``to_html()``."""

    _template = "structure"

    name: str
    class_name: str
    lang: str
    order: str
    library: str  #: the installed transformers, whose tree this is
    settings: dict[str, Any]
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    params: int
    cost: Cost
    rows: tuple[Row, ...]
    not_counted: tuple[str, ...] = ()  #: modules with weights whose cost is not known
    steps: tuple[Step, ...] = field(default=(), repr=False)  #: the trace of an image, if one was given
    source: str = ""  #: the image's name
    kernel: str = ""  #: how the model is set to compute attention, for a trace

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Memory of the weights in bytes, by dtype."""
        return {dtype: self.params * size for dtype, size in BYTES_PER_VALUE.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it. ``macs`` counts the attention matmuls, ``macs_timm`` does not."""
        entry: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return entry | {"weight_bytes": self.weight_bytes}

    def _view(self) -> dict[str, Any]:
        return render.structure_view(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from render.rich_structure(self, options.max_width)


def describe(
    model: Any = DEFAULT_MODEL,
    lang: Language = "en",
    image: Any = None,
    *,
    revision: str | None = None,
    all_layers: bool = False,
    depth: int | None = None,
    order: Order = "module",
) -> ModelStructure:
    """The structure of a model, explained.

    Args:
        model: a name or folder (its config is enough, no weights are read), a ``ViTConfig``, a model (any
            ``nn.Module``: what is no part of a ViT is shown as unknown), or a ``ViTPipeline``.
        lang: language of the explanations, ``"en"`` or ``"zh"``.
        image: trace this image through the model, step by step: anything that ``ViTPipeline.read`` takes
            (for a name or a pipeline), or pixel values (1, 3, H, W). Needs the weights.
        revision: of the ModelScope repository.
        all_layers: show equal layers one by one instead of folding them.
        depth: how many levels below the model to show; deeper rows are added to the row they belong to.
        order: ``"module"`` as declared, ``"execution"`` as the data flows (a module that is called twice
            then has two rows).

    Raises ArgumentError, and for a name what :func:`vit_pipeline.loading.load_config` raises; CheckpointError
    for a config that is no ViT or beyond all bounds.
    """
    if lang not in LANGUAGES:
        raise ArgumentError(f"lang is {lang!r}; use {' or '.join(map(repr, LANGUAGES))}")
    if order not in ("module", "execution"):
        raise ArgumentError(f"order is {order!r}; use 'module' or 'execution'")
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise ArgumentError(f"depth is {depth!r}; an integer of at least 0 is needed, or None for all")
    name, network, pixel_values, source = _resolve(model, revision, image)
    root = Tree(network, lang, order).root
    rows = tuple(flat(root, all_layers, math.inf if depth is None else depth))
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
        rows=rows,
        not_counted=tuple(node.row.path for node in root.walk() if node.row.cost is None),
        steps=() if pixel_values is None else trace(network, root, pixel_values),
        source=source,
        kernel=getattr(config, "_attn_implementation", None) or "",
    )


def _resolve(model: Any, revision: str | None, image: Any) -> tuple[str, nn.Module, torch.Tensor | None, str]:
    """Name, network (on the meta device where no weights are needed), pixel values, the image's name."""
    name = str(model) if isinstance(model, str | Path) else ""
    if revision is not None and not name:
        raise ArgumentError(f"revision is {revision!r}, but the model is no name; leave it out")
    if name and image is not None:
        from ..pipeline import ViTPipeline

        model = ViTPipeline.from_pretrained(model, revision, device="cpu")
    elif name:
        from ..loading import load_config

        model = empty_model(load_config(model, revision))
    elif hasattr(model, "model_type") and hasattr(model, "to_json_string"):
        if image is not None:
            raise ArgumentError("a config has no weights to trace an image with; give a name or a model")
        from ..checkpoints.config import check_config

        raw = json.loads(model.to_json_string(use_diff=False))  # held to the bounds of one from a file
        check_config({key: raw[key] for key in raw if key != "id2label"}, type(model).__name__)
        model = empty_model(model)
    network = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if not isinstance(network, nn.Module):
        network = getattr(model, "model", None)
        name = name or str(getattr(getattr(model, "provenance", None), "name", ""))
    if not isinstance(network, nn.Module):
        raise ArgumentError(
            f"cannot describe a {type(model).__name__}; give a model's name, folder or config, a model, or a "
            "pipeline"
        )
    name = name or type(network).__name__
    if image is None:
        return name, network, None, ""
    if isinstance(image, torch.Tensor) and image.ndim == 4:
        if len(image) != 1:
            raise ArgumentError(
                f"pixel values have the shape {tuple(image.shape)}; one image (1, 3, H, W) is needed"
            )
        return name, network, image, "pixel_values"
    if not hasattr(model, "preprocess"):
        raise ArgumentError(
            "a bare model cannot read images; give pixel values (1, 3, H, W) or a ViTPipeline"
        )
    from ..images import source_name

    return name, network, model.preprocess(model.read(image)), source_name(image)


def empty_model(config: Any) -> nn.Module:
    """The ViT of a config on the meta device: with a classifier, unless its ``architectures`` lack one."""
    from transformers import ViTForImageClassification, ViTModel

    with torch.device("meta"):
        if config.architectures and "ViTForImageClassification" not in config.architectures:
            return ViTModel(config, add_pooling_layer=False).eval()  # type: ignore[no-any-return]
        return ViTForImageClassification(config).eval()  # type: ignore[no-any-return]


__all__ = ["Cost", "ModelStructure", "Row", "describe"]
