"""One image through a ViT, step by step in plain torch operations, and beside what ``model()`` computes.

The complete forward pass can be read here; of the model only its linear maps, LayerNorms and nonlinearity are
called. Leaves out: reading the image (``pipeline``), what CLS looks at and what it would say (``explain``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import ArgumentError
from ..explain import Explanation
from ..explain.inside import twin
from ..images import to_data_url
from .measure import first_tensor
from .rows import WORDS, Row

Parts = dict[str | None, Any]  # modules, parameters, and the rows of steps, by role
Tensors = dict[str, Tensor]

# the modules whose output is compared with model(): role → how the path of its last step goes on
_LAST_STEPS = {
    "embeddings": ".position_embeddings",
    "layer": "[residual_mlp]",
    "final_layernorm": "",
    "classifier": "",
}


@dataclass(frozen=True)
class Step:
    """One step of the forward pass over one image. Values are those of its result."""

    role: str
    path: str  #: that of its row
    layer: int | None
    shape: tuple[int, ...]
    mean: float
    std: float
    cls_norm: float | None  #: Euclidean norm of the CLS token; None where there is no CLS token
    difference: float | None  #: largest absolute difference to model(); None elsewhere, or if not asked for

    @property
    def name(self) -> str:
        """``vit.layers.0.attention.q_proj``, or where the step happens and what it is."""
        where, _, step = self.path.partition("[")
        return f"{where} {WORDS['steps'][self.role]}".strip() if step else where


@dataclass(frozen=True)
class Seen:
    """The image as the model sees it, and what it makes of it."""

    image: str  #: a data: URL
    veil: str  #: what CLS does not look at in the last layer, dark; a data: URL, a pixel for each patch
    patch: tuple[int, int]  #: (height, width) in pixels
    colours: tuple[tuple[tuple[int, int, int], ...], ...]  #: (rows, cols): mean RGB of each patch, 0 to 255
    attention: tuple[tuple[float, ...], ...]  #: (rows, cols): what CLS looks at in the last layer
    lens: tuple[tuple[str, float], ...]  #: class and probability after the embeddings and each layer

    @classmethod
    def of(cls, explained: Explanation) -> Seen:
        """From ``pipe.explain(image)``. A backbone has no lens."""
        rows, cols = explained.grid
        attention = explained.attention()
        dark = np.zeros((rows, cols, 4), np.uint8)
        dark[..., 3] = (220 * (1 - attention / attention.max())).astype(np.uint8)
        colours = np.asarray(explained.image.resize((cols, rows), Image.Resampling.BOX)).tolist()
        return cls(
            to_data_url(explained.image),
            to_data_url(Image.fromarray(dark)),
            explained.patch,
            tuple(tuple(map(tuple, row)) for row in colours),
            tuple(map(tuple, attention.tolist())),
            tuple((one.label, one.score) for one in explained.lens) if explained.prediction else (),
        )


@torch.no_grad()
def trace(model: nn.Module, rows: Sequence[Row], pixels: Tensor, exactness: bool = False) -> tuple[Step, ...]:
    """Every step of the forward pass over one image.

    Args:
        model: a ViT with weights, with or without a classifier; nothing is done to it.
        rows: all its rows, not folded, in any order.
        pixels: (1, 3, H, W), as the model takes them.
        exactness: compare with ``model()`` after the embeddings, each layer, and at the end.

    Raises ArgumentError where the model is no ViT, has no weights, or does not take this image.
    """
    weight = next(model.parameters(), None)
    if weight is None or weight.is_meta:
        raise ArgumentError("a model without weights cannot see an image; give a name or a loaded model")
    steps: list[Step] = []
    try:
        x = pixels = pixels.to(weight.device, weight.dtype)
        expected = _returned(twin(model), rows, pixels) if exactness else {}
        layers = [(_encoder_layer, row.path) for row in rows if row.role == "layer"]
        for compute, path in [(_embeddings, ""), *layers, (_head, "")]:
            inside = (f"{path}.", f"{path}[") if path else ""
            found = {row.role: row for row in reversed(rows) if row.path and row.path.startswith(inside)}
            at = {
                key: row if row.kind == "step" else attrgetter(row.path)(model) for key, row in found.items()
            }
            results = compute(at, x)
            steps += [_step(found[role], result, expected) for role, result in results.items()]
            x = results[steps[-1].role]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = f"cannot trace an image of shape {tuple(pixels.shape)} through {type(model).__name__}"
        raise ArgumentError(f"{what}: it is no ViT, or takes images of another size ({error!r})") from error
    return tuple(steps)


def _returned(model: nn.Module, rows: Sequence[Row], pixels: Tensor) -> Tensors:
    """What the modules of this copy, which keeps the hooks, return: by the path of their last step."""
    outputs: Tensors = {}
    steps = {row.path: row.path + _LAST_STEPS[row.role] for row in rows if row.role in _LAST_STEPS}
    for path, module in model.named_modules():

        def keep(_: nn.Module, args: object, output: object, path: str = path) -> None:
            if (tensor := first_tensor(output)) is not None:
                outputs[steps[path]] = tensor

        if path in steps:
            module.register_forward_hook(keep)
    model(pixels)
    return outputs


def _embeddings(at: Parts, pixels: Tensor) -> Tensors:
    """Dosovitskiy et al. 2021, Eq. 1, step by step. N tokens, D width, p patch size."""
    y: Tensors = {}
    x = y["projection"] = at["projection"](pixels)  # (1, D, H/p, W/p)
    x = y["patch_embeddings"] = x.flatten(2).transpose(1, 2)  # (1, N-1, D)
    x = y["cls_token"] = torch.cat((at["cls_token"].expand(len(x), -1, -1), x), dim=1)  # (1, N, D)
    y["position_embeddings"] = x + at["position_embeddings"]  # (1, N, D)
    return y


def _encoder_layer(at: Parts, x: Tensor) -> Tensors:
    """Eq. 2 and 3, and Appendix A, Eq. 5–8. M width of the MLP, h heads of d values."""
    y: Tensors = {}
    heads = at["split_heads"].out_shape[1]
    z = y["layernorm_before"] = at["layernorm_before"](x)  # (1, N, D)
    for role in ("query", "key", "value"):
        y[role] = at[role](z)  # (1, N, D), Eq. 5
    split = (*x.shape[:2], heads, -1)  # (1, N, h, d)
    q, k, v = (y[role].view(split).transpose(1, 2) for role in ("query", "key", "value"))  # (1, h, N, d)
    y["split_heads"] = q
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)  # (1, h, N, N), Eq. 6
    z = y["attention_core"] = (weights @ v).transpose(1, 2).flatten(2)  # (1, N, D), Eq. 7
    z = y["attention_dense"] = at["attention_dense"](z)  # (1, N, D), Eq. 8
    x = y["residual_attention"] = x + z  # (1, N, D), Eq. 2
    z = y["layernorm_after"] = at["layernorm_after"](x)  # (1, N, D)
    z = y["fc1"] = at["fc1"](z)  # (1, N, M)
    z = y["activation"] = at["activation"](z)  # (1, N, M)
    z = y["fc2"] = at["fc2"](z)  # (1, N, D)
    y["residual_mlp"] = x + z  # (1, N, D), Eq. 3
    return y


def _head(at: Parts, x: Tensor) -> Tensors:
    """Eq. 4, and the scores of C classes, where the model has a classifier."""
    y: Tensors = {}
    x = y["final_layernorm"] = at["final_layernorm"](x)  # (1, N, D)
    if "classifier" in at:
        x = y["take_cls"] = x[:, 0]  # (1, D)
        y["classifier"] = at["classifier"](x)  # (1, C)
    return y


def _step(row: Row, x: Tensor, expected: Tensors) -> Step:
    values = x.float()
    with_cls = x.ndim == 3 and row.role != "patch_embeddings"
    cls = values[:, 0] if with_cls else values if row.role == "take_cls" else None
    layer = re.search(r"\blayers?\.(\d+)", row.path)
    tensor = expected.get(row.path)
    return Step(
        row.role or "",
        row.path,
        int(layer[1]) if layer else None,
        tuple(x.shape),
        float(values.mean()),
        float(values.std()) if values.numel() > 1 else 0.0,
        None if cls is None else float(cls.norm()),
        None if tensor is None else float((x - tensor).abs().max()),
    )
