"""The files of a checkpoint: their names, which of them hold the weights, and reading them within bounds.

Leaves out what they mean (``config``, ``processors``, ``tensors``).

Every message begins with ``where``, the checkpoint as the user knows it.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import tomllib
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  #: where newer releases nest the same, under "image_processor"
CALIBRATION = "calibration.json"  #: what ``evaluate`` may write, for this package only
SETTINGS = (PREPROCESSOR, PROCESSOR, CALIBRATION)  #: what may stand beside the weights
WEIGHTS = "model.safetensors"
PICKLE = "pytorch_model.bin"
INDEX = ".index.json"  #: after a name of weights: the list of their shards
#: in the order in which transformers looks for them
WEIGHTS_FILES = (WEIGHTS, f"{WEIGHTS}{INDEX}", PICKLE, f"{PICKLE}{INDEX}")

MAX_JSON_BYTES = 16 * 2**20  # a config with 21,843 class names has about 2 MB
MAX_HEADER_BYTES = 2 * 2**20  # the header of a ViT-H/14 file has about 100 kB
MAX_SHARDS = 500
#: by this, a ``preprocessor_config.json`` asks for torchvision's crop; plain transformers ignores it
CENTER_CROP_OFFSET = {"center_crop_offset": "round"}
#: what is known by name, and the words for it
RULES = tomllib.loads((Path(__file__).parent / "rules.toml").read_text(encoding="utf-8"))


def check_file(path: Path, where: object) -> None:
    """CheckpointError unless this is a file with something in it: reading a pipe would wait for ever."""
    try:
        found = path.stat()
        regular = stat.S_ISREG(found.st_mode)
        problem = "is not a regular file" if not regular else "" if found.st_size else "is empty"
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem:
        raise CheckpointError(f"{where}: {path.name} {problem}; get the complete checkpoint")


def read_json(path: Path, where: object) -> dict[str, Any]:
    """A JSON object of at most ``MAX_JSON_BYTES``. Raises CheckpointError for anything else."""
    check_file(path, where)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES >> 20} MiB")
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: {path.name} is not a JSON object ({error}); get it again") from error
    return value


def weights_files(folder: Path, where: object) -> list[Path]:
    """The files with the weights, chosen as transformers does: safetensors before pickles, one file before
    shards (then their index first), a variant (``model.fp16.safetensors``) where there is nothing else.

    Raises CheckpointError where there are none; it says what the folder holds in their place.
    """
    variants = [*sorted(folder.glob("model.*.safetensors")), *sorted(folder.glob("pytorch_model.*.bin"))]
    for path in (*(folder / name for name in WEIGHTS_FILES), *variants):
        if path.exists():
            return [path, *shards(path, where)] if path.name.endswith(INDEX) else [path]
    raise CheckpointError(
        f"{where}: {WEIGHTS} is missing; {instead(folder) or 'get the complete checkpoint'}"
    )


def shards(index: Path, where: object) -> list[Path]:
    """The files that an index names, beside it, whether or not they are there. Raises CheckpointError."""
    table = read_json(index, where).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    kind = Path(index.name.removesuffix(INDEX)).suffix
    if not 1 <= len(names) <= MAX_SHARDS or any(Path(x).name != x or Path(x).suffix != kind for x in names):
        raise CheckpointError(f"{where}: {index.name} does not name 1 to {MAX_SHARDS} files beside it")
    return [index.parent / name for name in names]


def instead(folder: Path) -> str:
    """What stands in a folder in place of a checkpoint, and what to do; "" where nothing is known."""
    known = RULES["other_files"]
    if any(folder.glob("*-of-*.safetensors")):
        return f"of its shards the list is missing, {WEIGHTS}{INDEX}; get that, too"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if what := known.get(path.name) or known.get(path.suffix):
            return f"{path.name} is {what}"
    return ""


def open_safetensors(path: Path, where: object, framework: str = "np") -> Any:
    """The file with its header read; the tensors are not. Raises CheckpointError unless the two fit."""
    from safetensors import SafetensorError, safe_open

    check_file(path, where)
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start == b"version ":
            raise CheckpointError(
                f"{where}: {path.name} is a Git LFS pointer, not the weights; fetch them: git lfs pull"
            )
        if len(start) == 8 and (length := struct.unpack("<Q", start)[0]) > MAX_HEADER_BYTES:
            raise SafetensorError(f"its header claims {length:,} bytes")
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{where}: {path.name} is cut short, damaged, or not a safetensors file ({error}); get it again"
        ) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
