"""Copies of ModelScope repositories on this disk: where they lie, and whether one is complete.

Nothing here uses the network or imports modelscope. The client's own offline mode takes any folder that is
not empty; a copy counts as complete here when

- its configuration parses, the files that its layout needs are there, and the weights are as long as their
  own header says;
- and, where this package downloaded it, every file is the one that was recorded then: by size and time
  stamp, and by SHA-256 when those differ, as git's index does it. Since the record lists the files of one
  download, a mixture of two revisions is never taken for a copy of either.

What is *in* the files is for others to judge.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
PICKLE = "pytorch_model.bin"
#: bytes; the largest file of that name that is downloaded or read
MAX_BYTES = {CONFIG: 10_000_000, PREPROCESSOR: 10_000_000, WEIGHTS: 50_000_000_000, PICKLE: 50_000_000_000}

RECORD = ".vit-pipeline.json"
MAX_HEADER = 16 * 2**20  # bytes; the header of a ViT-H/14 file has about 100 kB


def cache_folder() -> Path:
    """ModelScope's cache: ``MODELSCOPE_CACHE``, or ``~/.cache/modelscope``, as its client resolves it."""
    return Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser().resolve()


def snapshot_folder(repo: str, revision: str | None = None) -> Path:
    """Where the client keeps ``revision`` of ``repo``, whether or not anything is there."""
    return cache_folder() / "models" / repo.replace("/", "--") / "snapshots" / (revision or "master")


def old_folders(repo: str) -> list[Path]:
    """Where clients before 1.38 kept ``repo``, in the order in which today's client looks.

    Those layouts do not tell revisions apart.
    """
    owner, name = repo.split("/")
    escaped = name.replace(".", "___")
    cache = cache_folder()
    return [
        cache / "models" / owner / escaped,
        cache / "hub" / "models" / owner / escaped,
        cache / owner / name,
        cache / owner / escaped,
        cache / "hub" / owner / name,
        cache / "hub" / owner / escaped,
        cache / "models" / owner / name,
    ]


@dataclass(frozen=True)
class Copy:
    """What is in a folder. ``fault`` says why the copy cannot be used, and is empty when it can."""

    files: tuple[str, ...] = ()
    missing: str = ""
    fault: str = ""


def examine(folder: Path, *, weights: bool = True, use_record: bool = True) -> Copy:
    """Look at the copy in ``folder``: the configuration alone, or with ``weights`` all of it.

    A repository in timm's layout (``architecture`` and ``pretrained_cfg`` in its ``config.json``) needs no
    ``preprocessor_config.json``. ``pytorch_model.bin`` counts only where there is no ``model.safetensors``.
    """
    try:
        copy = _structure(folder, weights)
        if not copy.fault and use_record:
            return Copy(copy.files, fault=_recorded_fault(folder, copy.files))
        return copy
    except OSError as error:
        return Copy(fault=f"it cannot be read ({error.strerror or error})")


def _structure(folder: Path, weights: bool) -> Copy:
    if not (folder / CONFIG).is_file():
        return Copy(missing=CONFIG, fault=f"{CONFIG} is missing")
    config = _json_object(folder / CONFIG)
    if config is None:
        return Copy(fault=f"{CONFIG} is not a JSON object")
    if not weights:
        return Copy((CONFIG,))
    files = [CONFIG]
    if (folder / PREPROCESSOR).is_file():
        files.append(PREPROCESSOR)
        if _json_object(folder / PREPROCESSOR) is None:
            return Copy(fault=f"{PREPROCESSOR} is not a JSON object")
    elif not ("architecture" in config and "pretrained_cfg" in config):
        return Copy(missing=PREPROCESSOR, fault=f"{PREPROCESSOR} is missing")
    if (folder / WEIGHTS).is_file():
        if fault := _safetensors_fault(folder / WEIGHTS):
            return Copy(fault=f"{WEIGHTS} {fault}")
        return Copy((*files, WEIGHTS))
    if (folder / PICKLE).is_file():
        if not (folder / PICKLE).stat().st_size:
            return Copy(fault=f"{PICKLE} is empty")
        return Copy((*files, PICKLE))
    return Copy(missing=WEIGHTS, fault=f"{WEIGHTS} is missing")


def _json_object(path: Path) -> dict[str, Any] | None:
    if path.stat().st_size > MAX_BYTES[CONFIG]:
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _safetensors_fault(path: Path) -> str:
    """Compare the file's size with its header's: a truncated file is found without reading the weights."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(MAX_HEADER, size - 8):
            return "is cut short, or no safetensors file"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
            return "has an unreadable header"
    return "" if expected == size else f"has {size} bytes where its header says {expected}"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_record(folder: Path) -> bool:
    """Whether this package has begun a download into ``folder``."""
    return (folder / RECORD).exists()


def read_record(folder: Path) -> dict[str, dict[str, Any]]:
    """``{file: {"size": ..., "mtime_ns": ..., "sha256": ...}}``; empty when there is none to be trusted."""
    with contextlib.suppress(OSError):
        entries = (_json_object(folder / RECORD) or {}).get("files")
        if isinstance(entries, dict) and all(isinstance(entry, dict) for entry in entries.values()):
            return entries
    return {}


def write_record(folder: Path, files: Iterable[str], keep: Mapping[str, Mapping[str, Any]] = {}) -> None:
    """Record ``files`` as they are now, and ``keep`` as it was. No files: a download has begun."""
    entries: dict[str, Mapping[str, Any]] = dict(keep)
    for name in files:
        stat = (folder / name).stat()
        digest = sha256_of(folder / name)
        entries[name] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest}
    temporary = folder / f"{RECORD}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps({"version": 1, "files": entries}, indent=1), encoding="utf-8")
        temporary.replace(folder / RECORD)
    finally:
        temporary.unlink(missing_ok=True)


def _recorded_fault(folder: Path, files: tuple[str, ...]) -> str:
    if not has_record(folder):
        return ""  # filled by the client itself
    record = read_record(folder)
    moved = False
    for name in files:
        entry = record.get(name)
        if entry is None:
            return f"a download of {name} was not finished"
        stat = (folder / name).stat()
        if (stat.st_size, stat.st_mtime_ns) == (entry.get("size"), entry.get("mtime_ns")):
            continue
        if stat.st_size != entry.get("size") or sha256_of(folder / name) != entry.get("sha256"):
            return f"{name} is not the file that was downloaded"
        record[name] = {**entry, "mtime_ns": stat.st_mtime_ns}
        moved = True
    if moved:  # copied without its time stamps: spare the next process the hashing
        with contextlib.suppress(OSError):
            write_record(folder, (), keep=record)
    return ""
