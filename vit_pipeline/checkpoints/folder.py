"""A checkpoint's folder becomes a config, a processor and tensors, all checked, in either layout.

transformers' layout: ``config.json``, ``preprocessor_config.json``, weights. timm's: ``config.json`` with the
recipe in it, weights. Leaves out: finding the folder, and building the model (``loading``).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..hub.cache import CONFIG, PICKLE, PREPROCESSOR, WEIGHTS
from . import tensors, timm_checkpoint
from .config import check_config, check_processor, read_json
from .timm_config import is_timm_config, read_timm_config

if TYPE_CHECKING:
    import torch
    from transformers.image_processing_backends import PilBackend


@dataclass(frozen=True)
class OpenedFolder:
    """What a folder holds. ``state`` is None where transformers reads the weights file itself."""

    config: dict[str, Any]  #: keyword arguments of ``ViTConfig``
    processor: PilBackend
    state: dict[str, torch.Tensor] | None
    notes: tuple[str, ...]  #: what the user should know, a line each


def open_folder(folder: Path, where: str) -> OpenedFolder:
    """Check everything in a checkpoint's folder. Raises CheckpointError; ``where`` names it in messages."""
    raw = read_json(folder / CONFIG)
    if is_timm_config(raw):
        return _open_timm(folder, raw, where)
    config = check_config(raw, where)
    state, shapes, notes = _weights(folder, where)
    tensors.check_tensors(shapes, config, where)
    return OpenedFolder(config, _processor(folder / PREPROCESSOR, where), state, notes)


def read_recipe(folder: Path, where: str) -> dict[str, Any]:
    """The preprocessing of a checkpoint as a ``preprocessor_config.json`` says it, in either layout."""
    raw = read_json(folder / CONFIG)
    if is_timm_config(raw):
        from .timm_processor import to_processor_config

        return to_processor_config(raw, where)
    return check_processor(read_json(folder / PREPROCESSOR), where)


def _open_timm(folder: Path, raw: dict[str, Any], where: str) -> OpenedFolder:
    from safetensors import safe_open

    read_timm_config(raw, where)  # refuses another architecture before its weights are looked at
    state, shapes, notes = _weights(folder, where)
    translated = timm_checkpoint.to_transformers_config(raw, shapes, where)
    config = check_config(translated, where)

    from .timm_processor import (
        TimmImageProcessor,
        to_processor_config,
    )  # transformers: late, it takes seconds

    processor = TimmImageProcessor(**to_processor_config(raw, where))
    if state is not None:
        state = timm_checkpoint.convert_state(state.__getitem__, translated)
    else:
        with safe_open(weights_file(folder), framework="pt") as file:
            state = timm_checkpoint.convert_state(file.get_tensor, translated)
    return OpenedFolder(config, processor, state, notes)


def read_config(folder: Path, where: str) -> dict[str, Any]:
    """The keyword arguments of ``ViTConfig`` alone; of timm's layout the weights' header is needed too."""
    raw = read_json(folder / CONFIG)
    if is_timm_config(raw):
        read_timm_config(raw, where)
        _, shapes, _ = _weights(folder, where)
        raw = timm_checkpoint.to_transformers_config(raw, shapes, where)
    return check_config(raw, where)


def weights_file(folder: Path) -> Path:
    """``model.safetensors``, or ``pytorch_model.bin`` only where there is no safetensors file."""
    safe, pickle = folder / WEIGHTS, folder / PICKLE
    return pickle if pickle.is_file() and not safe.exists() else safe


def _weights(
    folder: Path, where: str
) -> tuple[dict[str, torch.Tensor] | None, dict[str, tuple[int, ...]], tuple[str, ...]]:
    """The tensors of a pickle, or None; the shapes of the tensors; what the user should know."""
    path = weights_file(folder)
    if path.suffix == ".safetensors":
        return None, tensors.safetensors_shapes(path), ()
    state = _unpickle(path)
    note = f"{where}: no safetensors file; read {path.name} with weights_only=True"
    return state, {name: tuple(tensor.shape) for name, tensor in state.items()}, (note,)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers; as it was before on leaving."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _processor(path: Path, where: str) -> PilBackend:
    """The checkpoint's own image processor, in its Pillow version: the same everywhere, no torchvision."""
    import transformers
    from transformers.image_processing_backends import PilBackend

    from .timm_processor import CENTER_CROP_OFFSET, TimmImageProcessor

    raw = check_processor(read_json(path), where)
    kind = raw.get("image_processor_type") or raw.get("feature_extractor_type") or "ViTImageProcessor"
    name = str(kind).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast") + "Pil"
    name = name.replace("PilPil", "Pil")
    family = getattr(transformers, name, None) if name.isidentifier() else None
    if CENTER_CROP_OFFSET.items() <= raw.items():  # a folder converted from timm's layout
        family = TimmImageProcessor
    if not (isinstance(family, type) and issubclass(family, PilBackend)):
        raise CheckpointError(
            f"{where}: preprocessor_config.json asks for {kind!r}, which transformers does not have"
        )
    settings = {
        key: value for key, value in raw.items() if not key.endswith("_type") and key != "processor_class"
    }
    with quiet_transformers():
        try:
            return family(**settings)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where}: preprocessor_config.json cannot be used: {error}") from error


def _unpickle(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickled state dict. ``weights_only`` refuses everything else, code first of all."""
    import torch

    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before torch 1.6 cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: refused, it is damaged or holds more than tensors ({reason})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds more than a table of tensors; convert it to safetensors")
    return state
