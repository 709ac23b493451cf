"""Where the evidence for a class lies: one score a patch, by the methods that know the class.

Each takes a model, the image as the model takes it, (1, 3, H, W), and the class's index; each returns scores in
the order of the patches, (N - 1,), higher where more speaks *for* the class. captum does what it has.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import check_installed
from .inside import Floats, differentiable, flow, twin

BATCH = 32  #: images in one forward pass


def gradient_attention(model: nn.Module, pixel_values: Tensor, target: int) -> Floats:
    """Attention that raises the class's logit, as it flows through all layers to the CLS token: (N - 1,).

    Rollout's flow, of attention times its gradient; what is negative does not flow. One pass there and back.
    Source: Chefer et al. 2021, "Generic Attention-model Explainability", equations 5 and 6.
    """
    with differentiable(pixel_values) as image:
        output = twin(model, "eager")(image, output_attentions=True)
        gradients = torch.autograd.grad(output.logits[0, target], output.attentions)  # L × (1, H, N, N)
    layers = [
        (attention.detach() * gradient).clamp(min=0).mean(1)  # (1, N, N)
        for attention, gradient in zip(output.attentions, gradients, strict=True)
    ]
    return flow(torch.cat(layers).float().cpu().numpy())


def integrated_gradients(
    model: nn.Module, pixel_values: Tensor, target: int, gray: Tensor, patches: np.ndarray, steps: int = 32
) -> Floats:
    """What each pixel adds to the class's logit on the way from gray to the image, summed by patch: (N - 1,).

    All scores together are the logit of the image less that of gray, the closer the more steps. ``patches``:
    (H, W), the patch of each pixel. Source: Sundararajan et al. 2017.
    """
    check_installed("captum", "integrated gradients")
    from captum.attr import IntegratedGradients

    other = twin(model)
    with differentiable(pixel_values) as image:
        method = IntegratedGradients(lambda images: other(images).logits.float())
        found = method.attribute(image, gray, target, n_steps=steps, internal_batch_size=BATCH)
    pixels = found.detach().double().sum(1)[0].cpu().numpy()  # (H, W)
    return np.bincount(patches.ravel(), pixels.ravel()).astype(np.float32)


def occlusion(
    model: nn.Module, pixel_values: Tensor, target: int, gray: Tensor, patches: np.ndarray
) -> Floats:
    """By how much the class's logit falls when a patch is made gray: (N - 1,).

    ``patches``: (H, W), the patch of each pixel. Source: Zeiler & Fergus 2014.
    """
    check_installed("captum", "occlusion")
    from captum.attr import FeatureAblation

    method = FeatureAblation(lambda images: model(images).logits.float())
    ids = torch.from_numpy(patches).to(pixel_values.device)
    found = method.attribute(
        pixel_values, gray, target, feature_mask=ids[None, None], perturbations_per_eval=BATCH
    )  # (1, 3, H, W), the same all over a patch
    _, first = np.unique(patches, return_index=True)
    return found[0, 0].flatten()[first].cpu().numpy()
