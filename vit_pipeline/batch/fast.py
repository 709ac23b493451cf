"""The forward pass for many images: compiled where that is asked for, fed through pinned memory on a GPU.

Only what paid in measurements is here; ``benchmarks/README.md`` names what did not. Leaves out preparing the
images (``streaming``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import DeviceError

if TYPE_CHECKING:
    from ..pipeline import ViTPipeline

Forward = Callable[[Tensor], Tensor]


def fast_forward(pipe: ViTPipeline, batch_size: int, *, compile: bool = False) -> Forward:
    """(B, 3, H, W) in float32 on the CPU → logits (B, C) in float32 on the CPU, B at most ``batch_size``.

    Args:
        compile: spend some ten seconds on ``torch.compile`` at the first batch.
    """
    if compile:
        return _compiled(pipe, batch_size)

    def forward(pixel_values: Tensor) -> Tensor:
        return pipe.forward(_there(pixel_values, pipe)).float().cpu()

    return forward


def _there(pixel_values: Tensor, pipe: ViTPipeline) -> Tensor:
    """On the model's device, in its dtype."""
    cast = pixel_values.to(pipe.dtype)
    if pipe.device.type == "cuda":
        return cast.pin_memory().to(pipe.device, non_blocking=True)
    return cast.to(pipe.device)


def _compiled(pipe: ViTPipeline, batch_size: int) -> Forward:
    """Always ``batch_size`` images, blank ones if need be: every other size would be compiled anew.

    Raises DeviceError, when it is called, where nothing can be compiled.
    """
    import torch._inductor.config as inductor

    compiled = torch.compile(lambda pixel_values: pipe.model(pixel_values).logits, dynamic=False)

    @torch.inference_mode()
    def forward(pixel_values: Tensor) -> Tensor:
        full = pixel_values.new_zeros((batch_size, *pixel_values.shape[1:]))  # (batch_size, 3, H, W)
        full[: len(pixel_values)] = pixel_values
        try:
            with inductor.patch(freezing=True):
                logits: Tensor = compiled(_there(full, pipe))  # (batch_size, C)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise DeviceError(
                f"the model cannot be compiled here ({reason}); run without --compile"
            ) from error
        return logits[: len(pixel_values)].float().cpu()

    return forward
