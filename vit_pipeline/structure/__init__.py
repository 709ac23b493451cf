"""A model's structure as a table that teaches: every module and every step that never prints, explained.

``print(describe("vit-base"))`` needs no weights. Leaves out: the explanations (``roles``), the arithmetic
(``costs``), the forward pass over an image (``trace``), drawing (``text``, ``html``).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..checkpoints.tensors import to_checkpoint_key
from ..errors import ArgumentError
from ..names import DEFAULT_MODEL
from ..roles import LANGUAGES
from . import html, text
from .costs import Cost, weight_bytes
from .flow_order import in_flow_order
from .module_tree import build_tree, config_value
from .rows import Row, make_rows, total_cost, total_params
from .trace import Step, attention_kernel, walk

Language = Literal["en", "zh"]
Order = Literal["module", "execution"]

# what of a config changes the structure, in the order in which it is shown
_SETTINGS = (
    "image_size patch_size num_channels hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act layer_norm_eps qkv_bias hidden_dropout_prob attention_probs_dropout_prob num_labels"
).split()


@dataclass(frozen=True)
class ModelStructure:
    """A model's structure. ``print`` it, or take ``to_dict()``, ``to_markdown()``, ``to_html()``."""

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
    hook_order: tuple[str, ...] | None  #: paths in the order in which forward hooks fire; None: not run
    not_counted: tuple[str, ...] = ()  #: modules with weights whose cost no formula here knows
    steps: tuple[Step, ...] = field(default=(), repr=False)  #: the walk over an image, if one was given
    source: str = ""  #: the image's name
    kernel: str = ""  #: how the model is set to compute attention, for a walk

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Memory of the weights in bytes, by dtype."""
        return weight_bytes(self.params)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON. ``macs`` counts the attention matmuls, ``macs_timm`` does not."""
        entry = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        del entry["cost"]
        entry |= asdict(self.cost) | {"weight_bytes": self.weight_bytes}
        entry["rows"] = [row.to_dict() for row in self.rows]
        entry["steps"] = [step.to_dict() for step in self.steps]
        return entry

    def to_text(self, width: int = 100) -> str:
        """The table, ``width`` columns wide (at least 80); from 150 on class and older name are columns."""
        return text.to_text(self, width)

    def to_markdown(self) -> str:
        """The table with every column, for a page in Markdown."""
        return text.to_markdown(self)

    def to_html(self, *, fragment: bool = False) -> str:
        """One self-contained page, collapsible, light and dark; ``fragment``: the part inside ``<body>``."""
        return html.to_html(self, fragment=fragment)

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html(fragment=True)


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
        image: walk this image through the model, step by step: anything that ``ViTPipeline.read`` takes
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
        raise ArgumentError(f"depth is {depth!r}; a whole number of at least 0 is needed, or None for all")
    name, network, pixel_values, source = _resolve(model, revision, image)
    root, calls = build_tree(network)
    steps = walk(network, root, pixel_values) if pixel_values is not None else ()
    nodes = list(root.walk())
    ordered = in_flow_order(root, calls is not None) if order == "execution" else root
    return ModelStructure(
        name=name,
        class_name=type(network).__name__,
        lang=lang,
        order=order,
        library=f"transformers {version('transformers')}",
        settings={key: value for key in _SETTINGS if (value := config_value(network, key)) is not None},
        input_shape=root.in_shape,
        output_shape=root.out_shape,
        params=total_params(root),
        cost=total_cost(root),
        rows=tuple(
            make_rows(ordered, lang, calls is not None, all_layers, math.inf if depth is None else depth)
        ),
        hook_order=None if calls is None else tuple(call.path for call in calls),
        not_counted=tuple(node.path for node in nodes if node.cost is None),
        steps=steps,
        source=source,
        kernel=attention_kernel(network) if steps else "",
    )


def checkpoint_keys(model: nn.Module) -> dict[str, str]:
    """Each live parameter's name → its key in a checkpoint file, which keeps the names of ≤ 5.8."""
    return {name: to_checkpoint_key(name) for name, _ in model.named_parameters()}


def _resolve(model: Any, revision: str | None, image: Any) -> tuple[str, nn.Module, torch.Tensor | None, str]:
    """Name, network (on the meta device where no weights are needed), pixel values, the image's name."""
    name = str(model) if isinstance(model, str | Path) else ""
    if name and image is not None:
        from ..pipeline import ViTPipeline

        model = ViTPipeline.from_pretrained(model, revision, device="cpu")
    elif revision is not None and not name:
        raise ArgumentError(f"revision is {revision!r}, but the model is no name; leave it out")
    elif name:
        from ..loading import load_config

        return name, _on_meta(load_config(model, revision)), None, ""
    if isinstance(model, nn.Module):
        network: nn.Module = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    elif isinstance(getattr(model, "model", None), nn.Module):
        network = model.model
        name = name or str(getattr(getattr(model, "provenance", None), "name", ""))
    elif hasattr(model, "model_type") and hasattr(model, "to_json_string"):
        if image is not None:
            raise ArgumentError(
                "a config has no weights for an image to walk through; give a name or a model"
            )
        network = _on_meta(_checked(model))
    else:
        kind = type(model).__name__
        raise ArgumentError(
            f"cannot describe a {kind}; give a model's name, folder or config, a model, or a pipeline"
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


def _checked(config: Any) -> Any:
    """A config given directly, held to the same bounds as one from a file."""
    from ..checkpoints.config import check_config

    raw = json.loads(config.to_json_string(use_diff=False))
    known = {"model_type", *_SETTINGS} - {"num_labels"}
    check_config({k: v for k, v in raw.items() if k in known}, type(config).__name__)
    return config


def _on_meta(config: Any) -> nn.Module:
    from transformers import ViTForImageClassification

    with torch.device("meta"):
        model: nn.Module = ViTForImageClassification(config)
    return model.eval()


__all__ = ["ModelStructure", "Row", "checkpoint_keys", "describe"]
