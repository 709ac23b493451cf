"""What happens inside a ViT, and where the evidence for a class lies: each method in a few lines.

All take the image as the model does, (1, 3, H, W). What needs more than a prediction runs on a twin of the
model that shares its tensors and nothing else: others can predict with it meanwhile, and its attention, hooks
and gradients are as before, whatever happens here. L layers, H heads, N tokens: CLS, then the patches.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import check_installed

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
BATCH = 32  #: images in one forward pass


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
def attentions(model: nn.Module, image: Tensor) -> Floats:
    """softmax(QKᵀ/√d) of every layer and head, (L, H, N, N): row i is what token i looks at, and sums to 1.

    The fused kernel (sdpa) does not return it; the twin computes it in plain operations.
    """
    return to_numpy(torch.cat(twin(model, "eager")(image, output_attentions=True).attentions))


@torch.no_grad()
def lens(model: nn.Module, image: Tensor) -> list[Tensor]:
    """The logits (1, C) after layer 0 (the embeddings) … L, as if the model ended there.

    The same operations on the same shapes as in the model, so that the last logits are its own.
    """
    other = twin(model)
    states = other(image, output_hidden_states=True).hidden_states  # L + 1 times (1, N, D)
    return [other.classifier(other.vit.layernorm(state)[:, 0, :]) for state in states]


def flow(layers: Floats) -> Floats:
    """How much of each patch arrives at CLS, (N - 1,): the row of CLS in (1 + A_L) … (1 + A_1).

    ``layers``: (L, N, N): how much of token j each layer adds to token i. The 1 is the residual connection.
    """
    row: Floats = np.eye(1, layers.shape[1], dtype=np.float32)[0]  # (N,)
    for layer in layers[::-1]:
        row = row + row @ layer
    return row[1:]


def gradient_attention(model: nn.Module, image: Tensor, target: int) -> Floats:
    """The flow of attention that raises the class's logit, (N - 1,): attention times its gradient, above 0.

    Source: Chefer et al. 2021, "Generic Attention-model Explainability", equations 5 and 6.
    """
    with differentiable(image) as leaf:
        output = twin(model, "eager")(leaf, output_attentions=True)
        gradients = torch.autograd.grad(output.logits[0, target], output.attentions)  # L × (1, H, N, N)
    raising = (torch.cat(output.attentions).detach() * torch.cat(gradients)).clamp(min=0)  # (L, H, N, N)
    return flow(to_numpy(raising.mean(1)))


def integrated_gradients(
    model: nn.Module, image: Tensor, target: int, gray: Tensor, patches: Indices, steps: int
) -> Floats:
    """What each patch adds to the class's logit on the straight way from gray to the image, (N - 1,).

    The sum is the logit's difference between the two. Source: Sundararajan et al. 2017.
    """
    check_installed("captum", "integrated gradients")
    from captum.attr import IntegratedGradients

    other = twin(model)
    method = IntegratedGradients(lambda images: other(images).logits.float())
    with differentiable(image) as leaf:
        found = method.attribute(leaf, gray, target, n_steps=steps, internal_batch_size=BATCH)  # (1, 3, H, W)
    return np.bincount(patches.ravel(), to_numpy(found.sum(1)).ravel()).astype(np.float32)


def occlusion(model: nn.Module, image: Tensor, target: int, gray: Tensor, patches: Indices) -> Floats:
    """By how much the class's logit falls where a patch is gray, (N - 1,). Source: Zeiler & Fergus 2014."""
    check_installed("captum", "occlusion")
    from captum.attr import FeatureAblation

    method = FeatureAblation(lambda images: model(images).logits.float())
    mask = torch.from_numpy(patches).to(image.device)[None, None]  # (1, 1, H, W)
    found = method.attribute(image, gray, target, feature_mask=mask, perturbations_per_eval=BATCH)
    scores: Floats = to_numpy(found)[0, 0].ravel()[np.unique(patches, return_index=True)[1]]
    return scores  # alike all over a patch: that of its first pixel


def distance(attentions: Floats, places: NDArray[Any]) -> Floats:
    """How far each head looks, (L, H), from patches at ``places``, (N - 1, 2), among themselves."""
    distances = np.linalg.norm(places[:, None] - places, axis=-1)  # (N - 1, N - 1)
    weights = attentions[:, :, 1:, 1:]
    return np.asarray(((weights * distances).sum(-1) / weights.sum(-1)).mean(-1), np.float32)


def to_numpy(tensor: Tensor) -> Floats:
    """In float32, from any device and dtype."""
    return np.asarray(tensor.detach().float().cpu(), np.float32)
