"""A name becomes files on disk, and the files a checked model, processor, labels and provenance.

Also where a model runs and in which number format. Leaves out: downloading (``hub``), what the files may say
(``checkpoints``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import hub
from .checkpoints import open_checkpoint
from .checkpoints.config import check_config, read_json
from .checkpoints.folder import read_config
from .checkpoints.processors import PROCESSOR, quiet_transformers
from .checkpoints.tensors import weights_files
from .errors import CheckpointError, DeviceError
from .hub.cache import CONFIG, PREPROCESSOR
from .names import DEFAULT_MODEL, IMAGENET_LABELS, parse_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ViTConfig
    from transformers.image_processing_backends import PilBackend

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Provenance:
    """Where a model came from, so that a result can be traced to the bytes behind it."""

    name: str  #: as the user said it
    source: str  #: "embedded", "folder", "ModelScope", "Hugging Face cache" or "memory"
    revision: str | None  #: of the repository
    folder: Path | None
    repo: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files the model was made of: config, preprocessing, weights with all their shards."""
        if self.folder is None:
            return ()
        settings = (self.folder / name for name in (CONFIG, PREPROCESSOR, PROCESSOR))
        weights = weights_files(self.folder, self.name)
        return tuple(path for path in (*settings, *weights) if path.is_file())

    @cached_property
    def sha256(self) -> dict[str, str]:
        """File name → SHA-256, read from disk on first use."""
        digests = {}
        for path in self.files:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return digests

    def __str__(self) -> str:
        where = f"{self.source} {self.repo}" if self.repo else self.source
        return f"{self.name} ({where})" if self.repo != self.name else f"{self.name} ({self.source})"


@dataclass(frozen=True)
class LoadedModel:
    """A checked model on its device in ``eval()`` mode, and what travels with it."""

    model: PreTrainedModel  #: a ViTForImageClassification, or a ViTModel (a backbone, without labels)
    processor: PilBackend
    labels: tuple[str, ...]
    provenance: Provenance
    notes: tuple[str, ...] = ()


def locate(
    name: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    config_only: bool = False,
    expected_sha256: Mapping[str, str] | None = None,
    **options: Any,
) -> Provenance:
    """The files of a model, downloaded from ModelScope if they are not on disk.

    Args:
        name: a short name (``vit-base``, ``vit-small``, ``demo``), ``owner/name`` or ``owner/name@revision``
            on ModelScope, or a folder. A ``Path`` is always a folder.
        revision: a branch or tag of the ModelScope repository.
        config_only: ``config.json`` is enough.
        expected_sha256: file name → SHA-256 that the file must have.
        options: ``refresh``, ``progress``, ``cache_dir``, ``local_files_only``, ``token``, as
            :func:`vit_pipeline.hub.download` has them.

    Raises:
        ModelNameError: the name means nothing, or both a folder and a repository.
        DownloadError: ModelScope did not deliver.
        CheckpointError: a file has not the expected SHA-256.
    """
    meant = parse_name(name, revision)
    if meant.folder is not None:
        found = Provenance(meant.text, "embedded" if meant.known else "folder", None, meant.folder)
    else:
        assert meant.repo is not None
        options = {key: value for key, value in options.items() if value}
        copy = hub.download(meant.repo, meant.revision, weights=not config_only, **options)
        found = Provenance(meant.text, copy.source, copy.revision, copy.folder, meant.repo)
    for file_name, digest in (expected_sha256 or {}).items():
        if (actual := found.sha256.get(file_name)) != digest.lower():
            what = f"has the SHA-256 {actual}" if actual else "is not among its files"
            raise CheckpointError(f"{name}: {file_name} {what}, expected {digest}: not the file you pinned")
    return found


def load_config(name: str | Path = DEFAULT_MODEL, revision: str | None = None) -> ViTConfig:
    """The checked config of a model, without its weights; from the package itself for the short names."""
    meant = parse_name(name, revision)
    if meant.known and meant.known.config and meant.revision is None:
        raw = read_json(meant.known.config)
        if "id2label" not in raw:  # ImageNet's class names are kept once
            raw["id2label"] = dict(enumerate(IMAGENET_LABELS.read_text(encoding="utf-8").splitlines()))
        return check_config(raw, name)
    found = locate(name, revision, config_only=True)
    assert found.folder is not None
    return read_config(found.folder, found.name)


def load(
    name: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "float32",
    refresh: bool = False,
    progress: Progress | None = None,
    expected_sha256: Mapping[str, str] | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> LoadedModel:
    """A checked model on its device, ready for ``model(pixel_values)``.

    Args:
        device: ``auto`` (CUDA, then MPS, then CPU) or a name that torch knows, such as ``cuda:1``.
        dtype: ``float32``, ``bfloat16``, ``float16`` on a GPU, or ``auto`` (bfloat16 only where the hardware
            runs it natively).

    The other arguments, and what is raised for them, are those of :func:`locate`; also:

    Raises:
        CheckpointError: the files are incomplete, dangerous, or not a ViT.
        DeviceError: there is no such device or dtype, or no room on it.
    """
    target = pick_device(device)
    number = pick_dtype(dtype, target)
    found = locate(
        name,
        revision,
        refresh=refresh,
        progress=progress,
        expected_sha256=expected_sha256,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
    )
    assert found.folder is not None
    opened = open_checkpoint(found.folder, found.name)
    try:
        model = opened.to_model(target, number)
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error).lower():
            raise CheckpointError(f"{found.name}: the weights cannot be read: {error}") from error
        raise DeviceError(f"{found.name}: no room on {target}; use another device or dtype") from error
    check_pair(model, opened.processor, opened.labels, found.name)
    return LoadedModel(model, opened.processor, opened.labels, found, opened.notes)


def check_pair(model: Any, processor: Any, labels: tuple[str, ...], where: str) -> None:
    """One forward pass of a gray image: processor, model and class names fit each other.

    Args:
        model: a ViTForImageClassification; or a ViTModel, with ``labels`` of ().

    Raises:
        CheckpointError: they do not, or the outputs are not finite.
    """
    from PIL import Image

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
        raise CheckpointError(
            f"{where}: the outputs for a gray image are not finite: the weights are damaged"
        )


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """``auto`` → CUDA, then MPS, then CPU; any other name must be there. Raises DeviceError."""
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(
            f"device {device!r} means nothing to torch; use auto, cpu, cuda, cuda:1 or mps"
        ) from error
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(picked.type, 0)
    if (picked.index or 0) >= count:
        raise DeviceError(f"device {device}: this machine has {count} of kind {picked.type}; use auto or cpu")
    return torch.device("cuda:0") if str(picked) == "cuda" else picked


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype by its name; ``auto`` is bfloat16 only where the device has instructions for it.

    Raises DeviceError for other names, and for float16 on a CPU.
    """
    name = str(dtype).removeprefix("torch.")
    if name == "auto":
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    if name not in ("float32", "bfloat16", "float16"):
        raise DeviceError(f"dtype {name!r} is not one of float32, bfloat16, auto, or float16 on a GPU")
    if name == "float16" and device.type == "cpu":
        raise DeviceError("dtype float16 is for GPUs; on a CPU use float32, or bfloat16")
    picked: torch.dtype = getattr(torch, name)
    return picked


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware there (elsewhere they work, slowly)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return any(features.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False
