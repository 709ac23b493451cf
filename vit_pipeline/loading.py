"""A name becomes files on disk, and the files a checked model, processor, labels and provenance.

Nothing is believed before it is checked: config within bounds, tensors exactly those of the config, as many
labels as outputs, finite logits on a blank picture. Leaves out: downloading (``hub``), what the files may
say (``checkpoint``), timm's layout (``timm_checkpoint``).
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checkpoint, hub, model_config, timm_checkpoint
from .catalog import DEFAULT_MODEL, IMAGENET_LABELS
from .devices import pick_device, pick_dtype
from .errors import CheckpointError, DeviceError
from .hub_cache import CONFIG, PICKLE, PREPROCESSOR, WEIGHTS
from .names import parse_name

if TYPE_CHECKING:
    import torch
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.image_processing_backends import PilBackend

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Provenance:
    """Where a model came from, so that a result can be traced to the bytes behind it."""

    name: str  #: as the user said it
    source: str  #: "embedded", "ModelScope" or "folder"
    revision: str | None  #: of the ModelScope repository
    folder: Path
    repo: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files the model was made of: config, preprocessing, weights."""
        names = (CONFIG, PREPROCESSOR, weights_file(self.folder).name)
        return tuple(path for name in names if (path := self.folder / name).is_file())

    @cached_property
    def sha256(self) -> dict[str, str]:
        """File name → SHA-256, read from disk on first use (about 0.2 s for ViT-B/16)."""
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
        found = Provenance(meant.text, "ModelScope", copy.revision, copy.folder, repo)
    for file_name, digest in (expected_sha256 or {}).items():
        if (actual := found.sha256.get(file_name)) != digest.lower():
            what = f"has the SHA-256 {actual}" if actual else "is not among its files"
            raise CheckpointError(f"{name}: {file_name} {what}, expected {digest}: not the file you pinned")
    return found


def load_config(name: str | Path = DEFAULT_MODEL, revision: str | None = None) -> ViTConfig:
    """The checked config of a model, without its weights; from the package itself for the short names."""
    meant = parse_name(name, revision)
    if meant.known and meant.known.config and meant.revision is None:
        return _vit_config(model_config.check_config(_packaged_config(meant.known.config), name))
    found = locate(name, revision, config_only=True)
    raw = model_config.read_json(found.folder / CONFIG)
    if timm_checkpoint.is_timm_config(raw):
        found = locate(name, revision)
        return _vit_config(_timm_config(raw, found))
    return _vit_config(model_config.check_config(raw, name))


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
    from transformers import ViTForImageClassification

    target = pick_device(device)
    number = pick_dtype(dtype, target)
    found = locate(name, revision, refresh=refresh, progress=progress, expected_sha256=expected_sha256)
    where = found.name
    raw = model_config.read_json(found.folder / CONFIG)
    weights = weights_file(found.folder)
    settings: dict[str, Any] = {"dtype": number, "device_map": {"": target}, "output_loading_info": True}
    notes = []

    if timm_checkpoint.is_timm_config(raw):
        config = _timm_config(raw, found)
        processor = timm_checkpoint.make_processor(raw)
        state = timm_checkpoint.load_state(weights, where=where)
        source: tuple[Any, ...] = (None,)
        settings["state_dict"] = state
    else:
        config = model_config.check_config(raw, where)
        processor = _processor(found.folder / PREPROCESSOR, where)
        if weights.suffix == ".safetensors":
            checkpoint.check_tensors(checkpoint.safetensors_shapes(weights), config, where)
            source = (found.folder,)
            settings |= {"use_safetensors": True, "local_files_only": True}
        else:
            state = _unpickle(weights)
            checkpoint.check_tensors({key: tuple(t.shape) for key, t in state.items()}, config, where)
            source = (None,)
            settings["state_dict"] = state
            notes.append(f"{where}: no safetensors file; read {weights.name} with weights_only=True")

    with quiet_transformers():
        try:
            model, info = ViTForImageClassification.from_pretrained(
                *source, config=_vit_config(config), **settings
            )
        except (RuntimeError, ValueError, OSError) as error:
            if "out of memory" in str(error).lower():
                raise DeviceError(f"{where}: no room on {target}; use another device or dtype") from error
            raise CheckpointError(f"{where}: cannot be loaded: {error}") from error
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        raise CheckpointError(f"{where}: the weights do not fit the config: {wrong}")
    model.eval()
    labels = tuple(config["id2label"].values())
    _check_blank_picture(model, processor, labels, where)
    return LoadedModel(model, processor, labels, found, tuple(notes))


def weights_file(folder: Path) -> Path:
    """``model.safetensors``, or ``pytorch_model.bin`` only where there is no safetensors file."""
    safe, pickle = folder / WEIGHTS, folder / PICKLE
    return pickle if pickle.is_file() and not safe.exists() else safe


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


def _vit_config(settings: Mapping[str, Any]) -> ViTConfig:
    from transformers import ViTConfig

    return ViTConfig(**settings)


def _packaged_config(path: Path) -> dict[str, Any]:
    """A config that ships with the package; ImageNet's class names are kept once, beside it."""
    raw = model_config.read_json(path)
    if "id2label" not in raw:
        raw["id2label"] = dict(enumerate(IMAGENET_LABELS.read_text(encoding="utf-8").splitlines()))
    return raw


def _timm_config(raw: Mapping[str, Any], found: Provenance) -> dict[str, Any]:
    shapes = checkpoint.safetensors_shapes(weights_file(found.folder))
    translated = timm_checkpoint.to_transformers_config(raw, shapes)
    return model_config.check_config(translated, found.name)


def _processor(path: Path, where: str) -> PilBackend:
    """The checkpoint's own image processor, in its Pillow version: the same everywhere, no torchvision."""
    import transformers
    from transformers.image_processing_backends import PilBackend

    raw = model_config.check_processor(model_config.read_json(path), where)
    kind = raw.get("image_processor_type") or raw.get("feature_extractor_type") or "ViTImageProcessor"
    name = (
        str(kind).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
        + "Pil"
    )
    family = getattr(transformers, name, None) if name.isidentifier() else None
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


def _check_blank_picture(model: Any, processor: Any, labels: tuple[str, ...], where: str) -> None:
    """One forward pass of a gray picture: the sizes fit each other, and the logits are finite."""
    import torch
    from PIL import Image

    picture = Image.new("RGB", (48, 32), (128, 128, 128))
    try:
        with quiet_transformers(), torch.inference_mode():
            pixels = processor(images=[picture], return_tensors="pt").pixel_values  # (1, 3, H, W)
            logits = model(pixels.to(model.device)).logits  # (1, C)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{where}: preprocessing and model do not fit each other: {error}") from error
    if logits.shape != (1, len(labels)):
        raise CheckpointError(f"{where}: {logits.shape[-1]} outputs but {len(labels)} class names")
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointError(
            f"{where}: the logits of a blank picture are not finite: the weights are damaged"
        )
