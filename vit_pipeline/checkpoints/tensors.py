"""The weights of a checkpoint: found, matched against the model on the meta device, and only then read.

Names, shapes and types come from headers, so that what does not fit is rejected before anything is allocated.
A transformers checkpoint keeps the names of transformers ≤ 5.8 on disk (``vit.encoder.layer.0…``), while the
modules of ≥ 5.9 are named otherwise (``vit.layers.0…``); :func:`to_checkpoint_key` maps the second to the
first. Leaves out: timm's names (``timm_checkpoint``).
"""

from __future__ import annotations

import mmap
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, printable
from .files import RULES, WEIGHTS, check_file, open_safetensors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ViTConfig

MAX_PICKLE_BYTES = 4 * 2**20  # the list of tensors in a zip; ViT-H/14's has about 100 kB
_FLOATS = ("F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16")  # safetensors', torch's
_WRAPPERS = ("module.", "model.", "_orig_mod.")  # DataParallel, Lightning, torch.compile
# What other heads and older releases leave in a file, and classifying does without.
_UNUSED = re.compile(r"(^|\.)(pooler\.dense\.(weight|bias)|mask_token|position_ids)$")

# live name (≥ 5.9) → name on disk (≤ 5.8); the rest is the same in both
_LAYER = re.compile(r"^((?:vit\.)?)layers\.(\d+)\.(attention\.[qkvo]_proj|mlp\.fc[12]|layernorm_\w+)(?=\.|$)")


def to_checkpoint_key(name: str) -> str:
    """The name on disk of a live parameter or module (``vit.layers.0.mlp.fc1.weight`` →
    ``vit.encoder.layer.0.intermediate.dense.weight``). Names on disk come back unchanged."""
    on_disk = RULES["on_disk"]
    return _LAYER.sub(lambda m: f"{m[1]}encoder.layer.{m[2]}.{on_disk.get(m[3], m[3])}", name)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: known by its header, read on demand."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], torch.Tensor]

    def changed(self, shape: tuple[int, ...], change: Callable[[torch.Tensor], torch.Tensor]) -> StoredTensor:
        """The same, changed when it is read."""
        return StoredTensor(shape, self.dtype, lambda: change(self.read()))


def read_weights(paths: Iterable[Path], where: object) -> dict[str, StoredTensor]:
    """Every tensor in the files, by its name without the prefixes of wrappers. Raises CheckpointError."""
    found: dict[str, StoredTensor] = {}
    for path in paths:
        if path.suffix != ".json":  # an index of shards
            found |= (_read_safetensors if path.suffix == ".safetensors" else _read_pickle)(path, where)
    while prefix := next((p for p in _WRAPPERS if found and all(n.startswith(p) for n in found)), ""):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def match(
    found: Mapping[str, StoredTensor], config: ViTConfig, where: object
) -> tuple[PreTrainedModel, dict[str, StoredTensor], list[str]]:
    """The model on the meta device, the stored tensor of each parameter, the names of those without use.

    A ViTForImageClassification; a ViTModel where the file has no classifier and the config claims none.

    Raises:
        CheckpointError: a tensor is missing, of another shape, or not a float; or one is left over that could
            change the result.
    """
    import torch
    from transformers import ViTForImageClassification, ViTModel

    named = {to_checkpoint_key(name): tensor for name, tensor in found.items()}
    if len(named) < len(found):
        raise CheckpointError(f"{where}: the weights hold a tensor twice, under its old and its new name")
    claimed = "ViTForImageClassification" in (config.architectures or ())
    backbone = not claimed and not any(name.startswith("classifier.") for name in named)
    if backbone:
        named = {name.removeprefix("vit."): tensor for name, tensor in named.items()}
    try:
        with torch.device("meta"):
            pooler = "pooler.dense.weight" in named
            model = ViTModel(config, pooler) if backbone else ViTForImageClassification(config)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{where}: config.json describes no model: {error}") from error
    expected = {to_checkpoint_key(name): (name, tuple(p.shape)) for name, p in model.state_dict().items()}
    extra = [name for name in named if name not in expected]
    unused = [name for name in extra if _UNUSED.search(name) or named[name].dtype not in _FLOATS]
    if backbone:
        unused += [name for name in extra if name.startswith("decoder.")]  # of masked image modelling
    for problem, names in (
        ("lack", [name for name in expected if name not in named]),
        ("hold unexpected", [name for name in extra if name not in unused]),
    ):
        if names:
            more = f" and {len(names) - 1} more" if names[1:] else ""
            raise CheckpointError(
                f"{where}: the weights {problem} {names[0]}{more}: not those of config.json; get both again"
            )
    for name, (_, shape) in expected.items():
        found_shape, dtype = named[name].shape, named[name].dtype
        problem = f"the shape {found_shape}; config.json asks for {shape}" if found_shape != shape else ""
        if problem and name == "classifier.weight" and found_shape[1:] == shape[1:]:
            problem = f"{found_shape[0]} outputs and config.json {shape[0]} class names"
        if dtype not in _FLOATS:
            problem = f"the type {dtype}: quantised weights; use the original ones"
        if problem:
            raise CheckpointError(f"{where}: {name} has {problem}")
    return model, {live: named[name] for name, (live, _) in expected.items()}, unused


def _read_safetensors(path: Path, where: object) -> dict[str, StoredTensor]:
    stored = open_safetensors(path, where, "pt")
    slices = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    return {
        name: StoredTensor(tuple(part.get_shape()), part.get_dtype(), partial(stored.get_tensor, name))
        for name, part in slices.items()
    }


def _read_pickle(path: Path, where: object) -> dict[str, StoredTensor]:
    """The tensors of a pickled state dict. ``weights_only`` rejects everything else, code first of all."""
    import torch

    check_file(path, where)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"\nbytearray\n") >= 0:  # weights_only would allocate as much as it says
                raise ValueError("it asks for memory that is no tensor's")
        packed = zipfile.is_zipfile(path)  # not so before torch 1.6
        if packed:
            with zipfile.ZipFile(path) as archive:
                parts = archive.infolist()
            size = sum(part.file_size for part in parts)
            if size > path.stat().st_size or any(part.compress_type for part in parts):
                raise ValueError("its parts are compressed, as torch never writes them")
            if any(part.file_size > MAX_PICKLE_BYTES for part in parts if part.filename.endswith(".pkl")):
                raise ValueError("the list of its tensors is too long")
        with warnings.catch_warnings(action="ignore"):  # about old ways to pickle
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except Exception as error:  # the unpickler raises anything
        reason = str(error).rpartition("WeightsUnpickler error: ")[2] or type(error).__name__
        reason = printable(re.split(r"[.\n]? ?(?:Please|Check) ", reason)[0], 150)  # not: how to trust it
        raise CheckpointError(
            f"{where}: {path.name} is damaged, or more than tensors ({reason}); use a copy with {WEIGHTS}"
        ) from error
    for key in ("state_dict", "model"):  # around the tensors in training checkpoints
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{where}: {path.name} is no table of tensors; use a copy with {WEIGHTS}")
    return {
        str(name): StoredTensor(tuple(tensor.shape), _dtype(tensor), partial(torch.Tensor.detach, tensor))
        for name, tensor in state.items()
    }


def _dtype(tensor: torch.Tensor) -> str:
    plain = tensor.device.type == "cpu" and str(tensor.layout) == "torch.strided"
    return str(tensor.dtype).removeprefix("torch.") if plain else f"{tensor.layout} on {tensor.device}"
