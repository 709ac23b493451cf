"""A name becomes files on disk, and the files a checked model, processor, labels and provenance.

Also where a model runs and in which number format. Leaves out: downloading (``hub``), what the files may say
(``checkpoints``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import torch

from . import hub
from .checkpoints.config import check_config
from .checkpoints.files import CONFIG, SETTINGS, read_json, sha256_of, weights_files
from .checkpoints.folder import Calibration, open_checkpoint, read_config
from .checkpoints.processors import quiet_transformers
from .errors import CheckpointError, DeviceError
from .names import DEFAULT_MODEL, IMAGENET_LABELS, parse_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ViTConfig
    from transformers.image_processing_backends import PilBackend

Progress = hub.Progress


class LocateOptions(TypedDict, total=False):
    """Where a model's files are looked for, as in :func:`vit_pipeline.hub.download`; and their digests."""

    refresh: bool
    progress: Progress | None
    cache_dir: str | Path | None
    local_files_only: bool
    token: str | None
    expected_sha256: Mapping[str, str] | None  #: file name → SHA-256 that the file must have


@dataclass(frozen=True)
class Provenance:
    """Where a model came from, so that a result can be traced to the bytes behind it."""

    name: str  #: as the user said it
    source: str  #: "embedded", "folder", "ModelScope", "Hugging Face cache" or "memory"
    revision: str | None  #: of the repository
    folder: Path | None
    repo: str | None = None

    @property
    def files(self) -> list[Path]:
        """The files the model was made of: config, preprocessing, weights with all their shards."""
        if self.folder is None:
            return []
        settings = [self.folder / name for name in (CONFIG, *SETTINGS)]
        return [*filter(Path.is_file, settings), *weights_files(self.folder, self.name)]

    @cached_property
    def sha256(self) -> dict[str, str]:
        """File name → SHA-256, read from disk on first use."""
        return {path.name: sha256_of(path) for path in self.files}

    def __str__(self) -> str:
        return f"{self.name} ({self.source}{f' {self.repo}' if self.repo not in (None, self.name) else ''})"


@dataclass(frozen=True)
class LoadedModel:
    """A checked model on its device in ``eval()`` mode, and what travels with it."""

    model: PreTrainedModel  #: a ViTForImageClassification, or a ViTModel (a backbone, without a classifier)
    processor: PilBackend
    provenance: Provenance
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None


def locate(
    name: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    weights: bool = True,
    **options: Unpack[LocateOptions],
) -> Provenance:
    """The files of a model, downloaded from ModelScope if they are not on disk.

    Args:
        name: what :func:`vit_pipeline.names.parse_name` understands.
        revision: a branch or tag of the ModelScope repository.
        weights: False when ``config.json`` is enough.
        options: :class:`LocateOptions`.

    Raises:
        ModelNameError: the name means nothing, or both a folder and a repository.
        DownloadError: ModelScope did not deliver.
        CheckpointError: a file has not the expected SHA-256.
    """
    meant = parse_name(name, revision)
    expected = options.pop("expected_sha256", None) or {}
    if meant.folder is not None:
        found = Provenance(meant.text, "embedded" if meant.known else "folder", None, meant.folder)
    else:
        assert meant.repo is not None
        copy = hub.download(meant.repo, meant.revision, weights=weights, **options)  # type: ignore[misc]
        found = Provenance(meant.text, copy.source, copy.revision, copy.folder, meant.repo)
    for file_name, digest in expected.items():
        if (actual := found.sha256.get(file_name)) != digest.lower():
            what = f"has the SHA-256 {actual}" if actual else "is not among its files"
            raise CheckpointError(f"{name}: {file_name} {what}, expected {digest}: not the file you pinned")
    return found


def load_config(name: str | Path = DEFAULT_MODEL, revision: str | None = None) -> ViTConfig:
    """The checked config of a model, without its weights; from the package itself for the short names."""
    meant = parse_name(name, revision)
    if meant.known and meant.revision is None:
        raw = read_json(meant.known.config, name)
        if "id2label" not in raw:  # ImageNet's class names are kept once
            raw["id2label"] = dict(enumerate(IMAGENET_LABELS.read_text(encoding="utf-8").splitlines()))
        return check_config(raw, name)
    found = locate(name, revision, weights=False)
    assert found.folder is not None
    return read_config(found.folder, found.name)


def load(
    name: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "float32",
    **options: Unpack[LocateOptions],
) -> LoadedModel:
    """A checked model on its device, ready for ``model(pixel_values)``.

    Args:
        device: as :func:`pick_device` has it, such as ``auto`` or ``cuda:1``.
        dtype: as :func:`pick_dtype` has it: ``float32``, ``bfloat16``, ``auto``, ``float16`` on a GPU.

    The other arguments, and what is raised for them, are those of :func:`locate`; also:

    Raises:
        CheckpointError: the files are incomplete, dangerous, or not a ViT.
        DeviceError: there is no such device or dtype, or no room on it.
    """
    target = pick_device(device)
    number = pick_dtype(dtype, target)
    found = locate(name, revision, **options)
    assert found.folder is not None
    opened = open_checkpoint(found.folder, found.name)
    try:
        model = opened.to_model(target, number)
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error).lower():
            raise CheckpointError(f"{found.name}: the weights cannot be read: {error}") from error
        raise DeviceError(f"{found.name}: no room on {target}; use another device or dtype") from error
    check_pair(model, opened.processor, found.name)
    return LoadedModel(model, opened.processor, found, opened.notes, opened.calibration)


def class_names(model: Any) -> tuple[str, ...]:
    """The labels of a model's classes, in the order of its outputs; none for a backbone."""
    names = model.config.id2label if hasattr(model, "classifier") else {}
    return tuple(str(label) for _, label in sorted(names.items()))


def check_pair(model: Any, processor: Any, where: str) -> None:
    """One forward pass of a gray image: processor, model and class names fit each other.

    Raises CheckpointError where they do not, or the outputs are not finite.
    """
    from PIL import Image

    labels = class_names(model)
    image = Image.new("RGB", (48, 32), (128, 128, 128))
    try:
        with quiet_transformers(), torch.inference_mode():
            pixels = processor(images=[image], return_tensors="pt").pixel_values  # (1, 3, H, W)
            output = model(pixels.to(model.device))
    except Exception as error:  # every processor fails in its own way
        raise CheckpointError(f"{where}: preprocessing and model do not fit each other: {error}") from error
    values = output.last_hidden_state if not labels else output.logits  # (1, N, D) or (1, C)
    if labels and values.shape != (1, len(labels)):
        raise CheckpointError(f"{where}: {values.shape[-1]} outputs but {len(labels)} class names")
    if not bool(torch.isfinite(values).all()):
        raise CheckpointError(f"{where}: outputs for a gray image are not finite: the weights are damaged")


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """``auto`` → CUDA, then MPS, then CPU; any other name must be there. Raises DeviceError.

    Of several GPUs, ``auto`` is this process's own under ``accelerate launch`` and ``torchrun``.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": cuda, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if str(device) == "auto":
        device = next(kind for kind, count in there.items() if count)
        if cuda > 1 and "LOCAL_RANK" in os.environ:
            device = f"cuda:{int(os.environ['LOCAL_RANK']) % cuda}"
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"device {device!r} means nothing to torch; use auto, cpu, cuda or mps") from error
    count = there.get(picked.type, 0)
    if (picked.index or 0) >= count:
        raise DeviceError(f"device {device}: this machine has {count} of kind {picked.type}; use auto or cpu")
    return torch.device("cuda:0") if str(picked) == "cuda" else picked


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype by its name; ``auto`` is bfloat16 only where the device has instructions for it.

    Raises DeviceError for other names, and for float16 on a CPU.
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    name = str(dtype).removeprefix("torch.")
    if name == "auto":
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    if name not in names:
        raise DeviceError(f"dtype {name!r} is unknown; use float32, bfloat16, auto, or float16 on a GPU")
    if name == "float16" and device.type == "cpu":
        raise DeviceError("dtype 'float16' is not for cpu; use float32, bfloat16, auto")
    return names[name]


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware there (elsewhere they work, slowly)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(features.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
