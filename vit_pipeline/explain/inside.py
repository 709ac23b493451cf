"""What happens inside: attentions, how attention flows to the CLS token, what each layer would have said.

Everything runs on a twin of the model, which shares its tensors and nothing else: a model that others predict
with at the same time keeps its attention, its hooks and its gradients, whatever happens here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]


def twin(model: nn.Module, attention: str | None = None) -> Any:
    """A second model, in eval mode, that shares the first one's tensors, frozen. What is done to it is not
    done to the first: no hook, mode or gradient has to be put back.

    ``attention``: how it shall compute attention, such as ``"eager"``; None: as the model does.
    """
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    other = copy.deepcopy(model, frozen | {id(b): b for b in model.buffers()})
    choose: Any = getattr(other, "set_attn_implementation", None)
    if attention is not None and choose is not None:
        choose(attention)
    return other.eval()


@contextmanager
def differentiable(pixel_values: Tensor) -> Iterator[Tensor]:
    """The image as the leaf of a graph, also inside somebody's ``no_grad`` or ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield pixel_values.clone().requires_grad_()


@torch.no_grad()
def attentions(model: nn.Module, pixel_values: Tensor) -> Floats:
    """softmax(QKᵀ/√d) of every layer and head for one image (1, 3, H, W): (L, H, N, N), each row sums to 1.

    The fused kernel (sdpa) that models use does not return it; the twin computes it in plain operations.
    """
    layers = twin(model, "eager")(pixel_values, output_attentions=True).attentions  # L × (1, H, N, N)
    return to_numpy(torch.cat(layers))


def flow(layers: Sequence[Floats]) -> Floats:
    """How much of each patch arrives at the CLS token, (N - 1,): its row of (1 + A_L) … (1 + A_1).

    ``layers``: for each, first to last, A (N, N): how much of token j it adds to token i. The 1 is the residual
    connection. Only the one row is computed, from the last layer back.
    """
    row = np.eye(1, len(layers[0]), dtype=np.float32)[0]  # (N,)
    for layer in reversed(layers):
        row = row + row @ layer
    return row[1:]


def attention_distance(attentions: Floats, grid: tuple[int, int], patch: tuple[int, int]) -> Floats:
    """How far each head looks, in pixels of the model's input: (L, H, N, N) → (L, H).

    The mean distance from a patch to the patches that it looks at, weighted by attention; CLS left out.
    Source: Dosovitskiy et al. 2021, figure 7, right.
    """
    places = np.indices(grid).reshape(2, -1).T * patch  # (N - 1, 2)
    distances = np.linalg.norm(places[:, None] - places, axis=-1)  # (N - 1, N - 1)
    weights = attentions[:, :, 1:, 1:]
    mean = (weights * distances).sum(-1) / weights.sum(-1)  # (L, H, N - 1)
    return np.asarray(mean.mean(-1), np.float32)


@torch.no_grad()
def lens(model: nn.Module, pixel_values: Tensor) -> list[Tensor]:
    """The logits (1, C) after layer 0 … L, as if the model ended there: final LayerNorm and classifier on CLS.

    Layer 0 is the embeddings. The same operations on the same shapes as in the model, so that the last logits
    are its own. Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    other = twin(model)
    states = other(pixel_values, output_hidden_states=True).hidden_states  # L + 1 times (1, N, D)
    return [other.classifier(other.vit.layernorm(state)[:, 0, :]) for state in states]


def to_numpy(tensor: Tensor) -> Floats:
    """In float32, from any device and dtype."""
    return tensor.detach().float().cpu().numpy()  # type: ignore[no-any-return]
