"""What turns pixel values into numbers: torch as transformers has it, exactly; or OpenVINO, faster on a CPU.

::

    on_torch.py      the model as it is     ← open this first
    on_openvino.py   the same model, compiled for this CPU, in float32, bfloat16 or int8

Both have two functions and three attributes, those of :class:`Backend`. Leaves out whether a faster way still
gives the same answers (``fast``).
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch

from .on_openvino import OpenVINO
from .on_torch import Torch

BackendName = Literal["torch", "openvino"]


class Backend(Protocol):
    """Of one model. ``str(backend)`` is how it is called where results are shown."""

    @property
    def name(self) -> BackendName: ...

    @property
    def precision(self) -> str:
        """``float32``, ``bfloat16``, ``float16`` or ``int8``."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → (B, C), before softmax; of a model with a classifier."""
        ...

    def tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → hidden states after the final LayerNorm, (B, 1 + N, D)."""
        ...


__all__ = ["Backend", "BackendName", "OpenVINO", "Torch"]
