"""A checkpoint's folder becomes a model, a processor and class names, in transformers' layout or in timm's.

What a file claims is checked before it costs anything: JSON of bounded size, sizes within bounds, the names
and shapes of the tensors against the model on the meta device. Leaves out: finding the folder, the device,
and the first forward pass (``loading``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ViTConfig
from transformers.image_processing_backends import PilBackend

from ..errors import CheckpointError, printable
from . import tensors
from .config import check_config, ignored_settings
from .files import CALIBRATION, CONFIG, PREPROCESSOR, PROCESSOR, instead, read_json, weights_files
from .processors import make_processor, quiet_transformers
from .timm import is_timm_config, to_processor_config, to_transformers_tensors


@dataclass(frozen=True)
class Calibration:
    """What an evaluation found out about a model's logits, so that its answers can be honest."""

    temperature: float  #: of softmax(logits / temperature), probabilities that come true as often as they say
    energy_threshold: float  #: an image of lower log Σ exp(logits) is unlike those of the evaluation

    def judge(self, logits: torch.Tensor) -> list[tuple[float, bool]]:
        """(B, C) → of each image, the calibrated probability of its class, and whether it is unlike them."""
        values = logits.float()  # (B, C)
        calibrated = (values / self.temperature).softmax(-1).amax(-1)  # (B,)
        unlike = values.logsumexp(-1) < self.energy_threshold  # (B,)
        return [*zip(calibrated.tolist(), unlike.tolist(), strict=True)]


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checked checkpoint whose weights have not been read yet."""

    processor: PilBackend
    notes: tuple[str, ...]  #: what the user should know, a line each
    load: Callable[[torch.dtype], PreTrainedModel]
    calibration: Calibration | None

    def to_model(self, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
        """The model with its weights, in ``eval()`` mode: a ViTForImageClassification or a ViTModel."""
        with quiet_transformers():
            return self.load(dtype).to(device)


def open_checkpoint(folder: Path, where: str) -> OpenedCheckpoint:
    """Check everything in a checkpoint's folder. Raises CheckpointError; ``where`` names it in messages."""
    raw = _read_config(folder, where)
    config, notes = check_config(raw, where), []
    files = weights_files(folder, where)
    convert: tensors.Convert = dict
    if is_timm_config(raw):
        convert = partial(to_transformers_tensors, config=raw, where=where)
    elif ignored := ignored_settings(raw, config):
        notes.append(f"ignored settings, which ViT does not have: {', '.join(ignored)}")
    model, load, unused = tensors.match(tensors.read_weights(files, where), config, where, convert)
    settings = read_preprocessing(folder, where)
    processor = make_processor(settings, config, where)
    if settings is None:
        notes.append(f"no {PREPROCESSOR}: ViT's own preprocessing is used, at the model's size")
    if unused:
        notes.append(f"ignored weights, for which the model has no use: {', '.join(unused)}")
    if files[-1].suffix == ".bin":
        notes.append(f"no safetensors file; read {files[-1].name} with weights_only=True")
    if not hasattr(model, "classifier"):
        notes.append("a backbone without a classifier: use features, or fine-tune it")
    calibration = None
    if (folder / CALIBRATION).exists():
        try:
            calibration = _read_calibration(folder, where)
        except (CheckpointError, TypeError, ValueError):
            notes.append(f"ignored {CALIBRATION}, which has no temperature and energy_threshold")
    said = tuple(printable(f"{where}: {note}") for note in notes)
    return OpenedCheckpoint(processor, said, load, calibration)


def read_config(folder: Path, where: str) -> ViTConfig:
    """The ViTConfig alone, of either layout. Raises CheckpointError."""
    return check_config(_read_config(folder, where), where)


def read_preprocessing(folder: Path, where: str) -> dict[str, Any] | None:
    """What a ``preprocessor_config.json`` says, from either layout; None where the folder says nothing."""
    raw = _read_config(folder, where)
    if is_timm_config(raw):
        return to_processor_config(raw, where)
    if (folder / PROCESSOR).exists():  # transformers looks here first
        nested = read_json(folder / PROCESSOR, where).get("image_processor")
        if isinstance(nested, dict):
            return nested
    return read_json(folder / PREPROCESSOR, where) if (folder / PREPROCESSOR).exists() else None


def _read_calibration(folder: Path, where: str) -> Calibration:
    """What ``evaluate`` has written. Raises CheckpointError, ValueError where this is something else."""
    raw = read_json(folder / CALIBRATION, where)
    found = Calibration(*(float(raw.get(name, "none")) for name in ("temperature", "energy_threshold")))
    if not (0 < found.temperature < math.inf and math.isfinite(found.energy_threshold)):
        raise ValueError
    return found


def _read_config(folder: Path, where: str) -> dict[str, Any]:
    if not (folder / CONFIG).exists() and (found := instead(folder)):
        raise CheckpointError(f"{where}: {CONFIG} is missing; {found}")
    return read_json(folder / CONFIG, where)
