"""The model as it is: in float32 on torch, equal to plain transformers to the last bit."""

from __future__ import annotations

from typing import Any, Literal

import torch


class Torch:
    """``model`` on its device, in the dtype of its weights."""

    name: Literal["torch"] = "torch"

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def precision(self) -> str:
        return str(self._model.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        return torch.device(self._model.device)

    @torch.inference_mode()
    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._model(self._on_device(pixel_values)).logits
        return found

    @torch.inference_mode()
    def tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        backbone = getattr(self._model, "vit", self._model)
        found: torch.Tensor = backbone(self._on_device(pixel_values)).last_hidden_state
        return found

    def _on_device(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """On the model's device, in its dtype."""
        dtype = self._model.dtype
        if self.device.type == "cuda" and pixel_values.device.type == "cpu":
            pixel_values = pixel_values.to(dtype).pin_memory()
        return pixel_values.to(self.device, dtype, non_blocking=True)

    def __str__(self) -> str:
        return self.precision
