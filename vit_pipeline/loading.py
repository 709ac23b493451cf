"""A name becomes files on disk, and the files a checked model, processor, labels and provenance.

Nothing is believed before it is checked: config within bounds, tensors exactly those of the config, as many
labels as outputs, finite logits on a blank image. Leaves out: downloading (``hub``), what the files may
say (``checkpoints``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hub
from .checkpoints.config import check_config, read_json
from .checkpoints.folder import open_folder, quiet_transformers, read_config, weights_file
from .checkpoints.timm_checkpoint import is_timm_config
from .devices import pick_device, pick_dtype
from .errors import CheckpointError, DeviceError
from .hub.cache import CONFIG, PREPROCESSOR
from .names import DEFAULT_MODEL, IMAGENET_LABELS, parse_name

if TYPE_CHECKING:
    import torch
    from transformers import ViTConfig, ViTForImageClassification
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
        """The files the model was made of: config, preprocessing, weights."""
        if self.folder is None:
            return ()
        names = (CONFIG, PREPROCESSOR, weights_file(self.folder).name)
        return tuple(path for name in names if (path := self.folder / name).is_file())

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

    model: ViTForImageClassification
    processor: PilBackend
    labels: tuple[str, ...]
    provenance: Provenance
    notes: tuple[str, ...] = field(default=())


def locate(
    name: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    refresh: bool = False,
    config_only: bool = False,
    progress: Progress | None = None,
    expected_sha256: Mapping[str, str] | None = None,
) -> Provenance:
    """The files of a model, downloaded from ModelScope if they are not on disk.

    Args:
        name: a short name (``vit-base``, ``vit-small``, ``demo``), ``owner/name`` or ``owner/name@revision``
            on ModelScope, or a folder. A ``Path`` is always a folder.
        revision: a branch or tag of the ModelScope repository.
        refresh: look for newer files, although a complete copy is there.
        config_only: ``config.json`` is enough.
        progress: called with (file name, bytes so far, bytes in all).
        expected_sha256: file name → SHA-256 that the file must have.

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
        repo, revision = meant.repo, meant.revision
        copy = hub.download(repo, revision, refresh=refresh, weights=not config_only, progress=progress)
        found = Provenance(meant.text, copy.source, copy.revision, copy.folder, repo)
    for file_name, digest in (expected_sha256 or {}).items():
        if (actual := found.sha256.get(file_name)) != digest.lower():
            what = f"has the SHA-256 {actual}" if actual else "is not among its files"
            raise CheckpointError(f"{name}: {file_name} {what}, expected {digest}: not the file you pinned")
    return found


def load_config(name: str | Path = DEFAULT_MODEL, revision: str | None = None) -> ViTConfig:
    """The checked config of a model, without its weights; from the package itself for the short names."""
    meant = parse_name(name, revision)
    if meant.known and meant.known.config and meant.revision is None:
        return _vit_config(check_config(_packaged_config(meant.known.config), name))
    found = locate(name, revision, config_only=True)
    assert found.folder is not None
    if is_timm_config(read_json(found.folder / CONFIG)):
        found = locate(name, revision)  # its sizes are read from its tensors
    assert found.folder is not None
    return _vit_config(read_config(found.folder, found.name))


def load(
    name: str | Path = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "float32",
    refresh: bool = False,
    progress: Progress | None = None,
    expected_sha256: Mapping[str, str] | None = None,
) -> LoadedModel:
    """A checked model on its device, ready for ``model(pixel_values)``.

    Args:
        device: ``auto`` (CUDA, then MPS, then CPU) or a name that torch knows, such as ``cuda:1``.
        dtype: ``float32``, ``bfloat16``, or ``auto`` (bfloat16 only where the hardware runs it natively).

    The other arguments, and what is raised for them, are those of :func:`locate`; also:

    Raises:
        CheckpointError: the files are incomplete, tampered with, or not a ViT classifier.
        DeviceError: there is no such device or dtype.
    """
    target = pick_device(device)
    number = pick_dtype(dtype, target)
    found = locate(name, revision, refresh=refresh, progress=progress, expected_sha256=expected_sha256)
    where = found.name
    assert found.folder is not None
    opened = open_folder(found.folder, where)

    from transformers import ViTForImageClassification  # after the checks: it takes seconds

    settings: dict[str, Any] = {"dtype": number, "device_map": {"": target}, "output_loading_info": True}
    if opened.state is None:
        settings |= {"use_safetensors": True, "local_files_only": True}
    else:
        settings["state_dict"] = opened.state
    with quiet_transformers():
        try:
            model, info = ViTForImageClassification.from_pretrained(
                found.folder if opened.state is None else None, config=_vit_config(opened.config), **settings
            )
        except (RuntimeError, ValueError, OSError) as error:
            if "out of memory" in str(error).lower():
                raise DeviceError(f"{where}: no room on {target}; use another device or dtype") from error
            raise CheckpointError(f"{where}: cannot be loaded: {error}") from error
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        raise CheckpointError(f"{where}: the weights do not fit the config: {wrong}")
    model.eval()
    labels = tuple(opened.config["id2label"].values())
    _check_blank_image(model, opened.processor, labels, where)
    return LoadedModel(model, opened.processor, labels, found, opened.notes)


def _vit_config(settings: Mapping[str, Any]) -> ViTConfig:
    from transformers import ViTConfig

    return ViTConfig(**settings)


def _packaged_config(path: Path) -> dict[str, Any]:
    """A config that ships with the package; ImageNet's class names are kept once, beside it."""
    raw = read_json(path)
    if "id2label" not in raw:
        raw["id2label"] = dict(enumerate(IMAGENET_LABELS.read_text(encoding="utf-8").splitlines()))
    return raw


def _check_blank_image(model: Any, processor: Any, labels: tuple[str, ...], where: str) -> None:
    """One forward pass of a gray image: the sizes fit each other, and the logits are finite."""
    import torch
    from PIL import Image

    image = Image.new("RGB", (48, 32), (128, 128, 128))
    try:
        with quiet_transformers(), torch.inference_mode():
            pixels = processor(images=[image], return_tensors="pt").pixel_values  # (1, 3, H, W)
            logits = model(pixels.to(model.device)).logits  # (1, C)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{where}: preprocessing and model do not fit each other: {error}") from error
    if logits.shape != (1, len(labels)):
        raise CheckpointError(f"{where}: {logits.shape[-1]} outputs but {len(labels)} class names")
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointError(f"{where}: the logits of a blank image are not finite: the weights are damaged")
