"""One image through a ViT, step by step in plain torch operations, beside what ``model()`` computes.

The complete forward pass can be read here; nothing is called but torch and the model's nonlinearity. Leaves
out: reading the image (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ArgumentError
from .measure import first_tensor, twin
from .rows import WORDS, Node, layer_index

# what model() itself returns there: the step's role → the role of the module whose output it is
_COMPARED = {
    "position_embeddings": "embeddings",
    "residual_mlp": "layer",
    "final_layernorm": "final_layernorm",
    "classifier": "classifier",
}


@dataclass(frozen=True)
class Step:
    """One step of the forward pass over one image. Values are those of its result."""

    role: str
    path: str  #: of the module that does it, or in which it happens
    layer: int | None
    shape: tuple[int, ...]
    mean: float
    std: float
    cls_norm: float | None  #: Euclidean norm of the CLS token; None where there is no CLS token
    difference: float | None  #: largest absolute difference to model() with eager attention
    difference_as_set: float | None  #: the same to model() with the attention it is set to

    @property
    def name(self) -> str:
        """``vit.layers.0.attention.q_proj``, or where the step happens and what it is."""
        label = WORDS["steps"].get(self.role, "") if self.role not in self.path.split(".") else ""
        return f"{self.path} {label}".strip()


@torch.no_grad()
def trace(model: nn.Module, root: Node, pixel_values: Tensor) -> tuple[Step, ...]:
    """Every step of the forward pass over one image, with the difference to ``model()`` after each layer.

    Args:
        model: a ViT with weights, with or without a classifier; nothing is done to it.
        root: its tree, from :class:`vit_pipeline.structure.rows.Tree`, in any order.
        pixel_values: (1, 3, H, W), as the model takes them.

    Raises ArgumentError where the model is no ViT, has no weights, or does not take this image.
    """
    weight = next(model.parameters(), None)
    if weight is None or weight.is_meta:
        raise ArgumentError("a model without weights cannot see an image; give a name or a loaded model")
    pixel_values = pixel_values.to(weight.device, weight.dtype)
    wanted = {node.row.path for node in root.walk() if node.row.role in _COMPARED.values()}
    try:
        written_out = _outputs(twin(model, "eager"), pixel_values, wanted)
        as_set = _outputs(twin(model), pixel_values, wanted)
        return tuple(_summary(*step, written_out, as_set) for step in _forward(root, pixel_values))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = f"cannot trace an image of shape {tuple(pixel_values.shape)} through {type(model).__name__}"
        raise ArgumentError(f"{what}: it is no ViT, or takes images of another size ({error!r})") from error


def _outputs(copied: nn.Module, pixel_values: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    """What the modules at these paths return in a forward pass of a copy, which keeps the hooks."""
    outputs: dict[str, Tensor] = {}
    for path, module in copied.named_modules():

        def keep(_: nn.Module, args: Any, output: Any, path: str = path) -> None:
            if (tensor := first_tensor(output)) is not None:
                outputs.setdefault(path, tensor)

        if path in wanted:
            module.register_forward_hook(keep)
    copied(pixel_values)
    return outputs


def _forward(root: Node, pixels: Tensor) -> Iterator[tuple[str, Node, Tensor]]:
    """Dosovitskiy et al. 2021, Eq. 1–4 and Appendix A, Eq. 5–8, as (role, where it belongs, its result).

    N tokens, D width, M width of the MLP, h heads of d values, p patch size, C classes.
    """
    parts = root.by_role()
    embeddings: Any = parts["embeddings"].module

    conv: Any = parts["projection"].module
    x = F.conv2d(pixels, conv.weight, conv.bias, stride=conv.stride)  # (1, D, H/p, W/p)
    yield "projection", parts["projection"], x
    x = x.flatten(2).transpose(1, 2)  # (1, N-1, D)
    yield "patch_embeddings", parts["patch_embeddings"], x
    x = torch.cat((embeddings.cls_token.expand(len(x), -1, -1), x), dim=1)  # (1, N, D)
    yield "cls_token", parts["cls_token"], x
    x = x + embeddings.position_embeddings  # (1, N, D), Eq. 1
    yield "position_embeddings", parts["embeddings"], x

    for layer in root.walk():
        if layer.row.role == "layer":
            for step in _encoder_layer(layer, x):
                yield step
            x = step[2]  # (1, N, D)

    x = _layer_norm(parts["final_layernorm"], x)  # (1, N, D)
    yield "final_layernorm", parts["final_layernorm"], x
    if "classifier" in parts:
        x = x[:, 0]  # (1, D), Eq. 4
        yield "take_cls", root, x
        yield "classifier", parts["classifier"], _linear(parts["classifier"], x)  # (1, C)


def _encoder_layer(layer: Node, x: Tensor) -> Iterator[tuple[str, Node, Tensor]]:
    parts = layer.by_role()
    batch, tokens, _ = x.shape
    heads = parts["attention_core"].row.in_shape[1]  # type: ignore[index]

    y = _layer_norm(parts["layernorm_before"], x)  # (1, N, D)
    yield "layernorm_before", parts["layernorm_before"], y
    split = {}
    for role in ("query", "key", "value"):
        projected = _linear(parts[role], y)  # (1, N, D), Eq. 5
        yield role, parts[role], projected
        split[role] = projected.view(batch, tokens, heads, -1).transpose(1, 2)  # (1, h, N, d)
    q, k, v = split["query"], split["key"], split["value"]
    yield "split_heads", parts["attention"], q
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)  # (1, h, N, N), Eq. 6
    y = (weights @ v).transpose(1, 2).reshape(batch, tokens, -1)  # (1, N, D), Eq. 7
    yield "attention_core", parts["attention"], y
    y = _linear(parts["attention_dense"], y)  # (1, N, D), Eq. 8
    yield "attention_dense", parts["attention_dense"], y
    x = x + y  # (1, N, D), Eq. 2
    yield "residual_attention", layer, x

    y = _layer_norm(parts["layernorm_after"], x)  # (1, N, D)
    yield "layernorm_after", parts["layernorm_after"], y
    y = _linear(parts["fc1"], y)  # (1, N, M)
    yield "fc1", parts["fc1"], y
    y = parts["activation"].module(y)  # (1, N, M)
    yield "activation", parts["activation"], y
    y = _linear(parts["fc2"], y)  # (1, N, D)
    yield "fc2", parts["fc2"], y
    yield "residual_mlp", layer, x + y  # (1, N, D), Eq. 3


def _linear(node: Node, x: Tensor) -> Tensor:
    module: Any = node.module
    return x if isinstance(module, nn.Identity) else F.linear(x, module.weight, module.bias)


def _layer_norm(node: Node, x: Tensor) -> Tensor:
    module: Any = node.module
    return F.layer_norm(x, x.shape[-1:], module.weight, module.bias, module.eps)


def _summary(role: str, node: Node, x: Tensor, *models: dict[str, Tensor]) -> Step:
    values = x.float()
    with_cls = x.ndim == 3 and role != "patch_embeddings"
    cls = values[:, 0] if with_cls else values if role == "take_cls" else None
    expected = [outputs.get(node.row.path) if role in _COMPARED else None for outputs in models]
    differences = [None if tensor is None else float((x - tensor).abs().max()) for tensor in expected]
    return Step(
        role,
        node.row.path,
        layer_index(node.row.path),
        tuple(x.shape),
        float(values.mean()),
        float(values.std()) if values.numel() > 1 else 0.0,
        None if cls is None else float(cls.norm()),
        *differences,
    )
