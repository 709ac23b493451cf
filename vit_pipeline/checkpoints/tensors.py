"""The weights of a checkpoint: mapped from their files, and matched against the model before they are read.

A tensor's bytes stay in its file until they are used. Which tensors fit is decided by transformers' own
loader, on the meta device, where nothing is allocated. Leaves out: timm's names (``timm``).
"""

from __future__ import annotations

import mmap
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification, ViTModel

from ..errors import CheckpointError, printable
from .files import WEIGHTS, check_file, open_safetensors
from .processors import quiet_transformers

Tensors = Mapping[str, torch.Tensor]
Convert = Callable[[Tensors], Tensors]

MAX_TENSORS = 10_000  # ViT-22B has under 1,000
MAX_PICKLE_BYTES = 2**20  # the list of tensors in a zip; ViT-H/14's has about 100 kB
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WRAPPERS = ("module.", "model.", "_orig_mod.")  # DataParallel, Lightning, torch.compile
# What other heads and older releases leave in a file, and classifying does without.
_UNUSED = re.compile(r"(^|\.)(pooler\.dense\.(weight|bias)|mask_token|position_ids)$")


def read_weights(paths: Iterable[Path], where: object) -> Tensors:
    """Every tensor in the files, by its name without the prefixes of wrappers. Raises CheckpointError."""
    found: dict[str, torch.Tensor] = {}
    for path in paths:
        if path.suffix == ".safetensors":
            found |= _read_safetensors(path, where)
        elif path.suffix == ".bin":
            found |= _read_pickle(path, where)
        if len(found) > MAX_TENSORS:
            raise CheckpointError(
                f"{where}: the weights hold more than {MAX_TENSORS:,} tensors, as no ViT has"
            )
    while prefix := next((p for p in _WRAPPERS if found and all(n.startswith(p) for n in found)), ""):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def digest(model: torch.nn.Module) -> str:
    """Of all its weights, as they are in memory."""
    found = blake2b(digest_size=16)
    for tensor in model.state_dict().values():
        found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def match(
    found: Tensors, config: ViTConfig, where: object, convert: Convert = dict
) -> tuple[PreTrainedModel, Callable[[torch.dtype], PreTrainedModel], list[str]]:
    """The model on the meta device; what loads it on the CPU, with its weights; the names of unused tensors.

    It is a ViTForImageClassification, or a ViTModel where the file has no classifier and the config claims
    none. ``convert`` gives the tensors the names of transformers' layout.

    Raises:
        CheckpointError: a tensor is missing, of another shape, or not a float; or one is left over that could
            change the result.
    """
    plain = {name: tensor for name, tensor in found.items() if _type(tensor) in _FLOATS}
    unused = [name for name in found if name not in plain]
    for name in unused:
        if name.endswith((".weight", ".bias")):
            kind = str(_type(found[name])).removeprefix("torch.")
            raise CheckpointError(
                f"{where}: {name} has the type {kind}: quantised or packed; use float weights"
            )
    shapes = convert({name: tensor.to("meta") for name, tensor in plain.items()})
    if len(shapes) < 12 * config.num_hidden_layers:  # a layer has at least so many; even empty ones take time
        raise CheckpointError(
            f"{where}: the weights hold {len(shapes)} tensors, too few for config.json's "
            f"{config.num_hidden_layers} layers; get both again"
        )

    options: dict[str, Any] = {"config": config}
    claimed = "ViTForImageClassification" in (config.architectures or ())
    backbone = not claimed and not any(name.startswith("classifier.") for name in shapes)
    if backbone:
        options["add_pooling_layer"] = any(name.endswith("pooler.dense.weight") for name in shapes)
    load = partial((ViTModel if backbone else ViTForImageClassification).from_pretrained, None, **options)
    report = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    with quiet_transformers():
        try:
            model, info = load(state_dict=shapes, device_map="meta", **report)
        except Exception as error:  # each part of transformers has its own
            raise CheckpointError(f"{where}: config.json describes no model: {error}") from error

    missing = [name for name in model.state_dict() if name in info["missing_keys"]]
    extra = sorted(info["unexpected_keys"])
    ignored = [name for name in extra if _UNUSED.search(name)]
    if backbone:
        ignored += [name for name in extra if name.startswith("decoder.")]  # of masked image modelling
    for problem, names in (("lack", missing), ("hold unexpected", [n for n in extra if n not in ignored])):
        if names:
            more = f" and {len(names) - 1} more" if names[1:] else ""
            raise CheckpointError(
                f"{where}: the weights {problem} {names[0]}{more}: not those of config.json; get both again"
            )
    for name, shape, expected in sorted(info["mismatched_keys"]):
        problem = f"the shape {tuple(shape)}; config.json asks for {tuple(expected)}"
        if shape and name.startswith("classifier.") and shape[1:] == expected[1:]:
            problem = f"{shape[0]} outputs and config.json {expected[0]} class names"
        raise CheckpointError(f"{where}: {name} has {problem}")
    if len(shapes) - len(extra) > len(model.state_dict()):
        raise CheckpointError(f"{where}: the weights hold a tensor twice, under its old and its new name")
    return model, lambda dtype: load(state_dict=convert(plain), dtype=dtype), unused + ignored


def _type(tensor: torch.Tensor) -> Any:
    """The dtype; where the values are not simply in memory or in the file, how they are kept instead."""
    if tensor.device.type != "cpu":
        return tensor.device
    return tensor.dtype if tensor.layout == torch.strided else tensor.layout


def _read_safetensors(path: Path, where: object) -> Tensors:
    stored = open_safetensors(path, where, "pt")
    try:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # a type that torch does not have
        raise CheckpointError(f"{where}: {path.name} cannot be read: {error}") from error


def _read_pickle(path: Path, where: object) -> Tensors:
    """The tensors of a pickled state dict. ``weights_only`` rejects everything else, code first of all."""
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
        reason = str(error) or type(error).__name__
        for advice in ("trusted source.\n", "WeightsUnpickler error: "):  # not: how to run the code after all
            reason = reason.rpartition(advice)[2].strip()
        reason = printable(re.split(r"[.\n]? ?(?:Please|Check) ", reason)[0].strip(". \n"), 150)
        raise CheckpointError(
            f"{where}: {path.name} is damaged, or more than tensors ({reason}); use a copy with {WEIGHTS}"
        ) from error
    for key in ("state_dict", "model"):  # around the tensors in training checkpoints
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{where}: {path.name} is no table of tensors; use a copy with {WEIGHTS}")
    return {str(name): tensor.detach() for name, tensor in state.items()}
