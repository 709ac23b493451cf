"""Complete copies of a checkpoint on this disk: in ModelScope's cache, then in Hugging Face's. No network.

The clients take any folder that is not empty. Here a copy counts when its configuration parses, its weights
are as long as their headers say, and, where this package downloaded it, each file is the one recorded then:
by size and time stamp, or else by SHA-256. A record lists the files of one download, so a mixture of two
revisions is never taken for either. What is *in* the files is for others to judge.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..names import KNOWN_MODELS, check_repo

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
FILES = (CONFIG, PREPROCESSOR, PROCESSOR, WEIGHTS, INDEX, PICKLE)  # and the shards that INDEX names
RECORD = ".vit-pipeline.json"
#: the largest file that is downloaded or read, by the end of its name
MAX_BYTES = {".json": 10_000_000, ".safetensors": 50_000_000_000, ".bin": 50_000_000_000}
MAX_SHARDS = 500
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


@dataclass(frozen=True)
class Snapshot:
    """The files of one repository on this disk."""

    repo: str  #: ``owner/name``
    revision: str  #: as asked for, or ``master``; of Hugging Face's cache the commit
    folder: Path
    files: tuple[str, ...]  #: their names
    source: str = "ModelScope"  #: or "Hugging Face cache"
    downloaded: bool = False  #: just now


class Unusable(Exception):
    """Why a copy is not complete."""


def find_cached(
    repo: str, revision: str | None = None, *, weights: bool = True, cache_dir: str | Path | None = None
) -> Snapshot | None:
    """A complete copy on this disk, or None. Needs no network and does not import modelscope.

    Args:
        repo: ``owner/name``.
        revision: branch or tag; None is ``master``, copies made by clients before 1.38 included, and ``main``
            in Hugging Face's cache.
        weights: False when ``config.json`` is enough.
        cache_dir: look there only, for both clients' layouts.

    Raises:
        ModelNameError: if ``repo`` or ``revision`` cannot be a name on a hub.
    """
    check_repo(repo, revision)
    cache, (owner, name) = cache_folder(cache_dir), repo.split("/")
    folders = [snapshot_folder(repo, revision, cache_dir)]
    if revision is None:  # where clients before 1.38 kept it; today's looks there, too
        for leaf in (f"{owner}/{name.replace('.', '___')}", repo):
            folders += [cache / place / leaf for place in ("models", "hub/models", "", "hub")]
    for folder in folders:
        with suppress(Unusable):
            files = examine(folder, repo, revision, weights=weights)
            return Snapshot(repo, revision or "master", folder, files)

    from huggingface_hub import try_to_load_from_cache

    with suppress(Unusable, ValueError, OSError):  # ValueError: no name over there
        config, preprocessor = (
            try_to_load_from_cache(repo, file, cache_dir=cache_dir, revision=revision)
            for file in (CONFIG, PREPROCESSOR)
        )
        if isinstance(config, str):
            folder = Path(config).parent
            # not None is a path, or the client's note that the repository has no such file
            files = examine(folder, repo, revision, weights=weights, finished=preprocessor is not None)
            return Snapshot(repo, folder.name, folder, files, "Hugging Face cache")
    return None


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """ModelScope's cache: ``MODELSCOPE_CACHE``, or ``~/.cache/modelscope``, as its client resolves it."""
    place = cache_dir or os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
    return Path(place).expanduser().resolve()


def snapshot_folder(repo: str, revision: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Where the client keeps ``revision`` of ``repo``, whether or not anything is there."""
    name = repo.replace("/", "--")
    return cache_folder(cache_dir) / "models" / name / "snapshots" / (revision or "master")


def examine(
    folder: Path,
    repo: str,
    revision: str | None,
    *,
    weights: bool = True,
    names: Collection[str] = (),
    finished: bool = False,
) -> tuple[str, ...]:
    """The files of the complete copy in ``folder``: the configuration, or with ``weights`` all of them.

    Args:
        names: the files that were downloaded; without, those of the record, or all that are there.
        finished: no file of the repository is missing, as is certain with ``names`` or a record. Otherwise
            a copy without preprocessing is taken for one that was cut short.

    Raises:
        Unusable: it is not complete, or damaged, or not what ``models.toml`` pins.
    """
    try:
        record = None if names else _read_record(folder)
        finished = finished or bool(names or record)
        names = names or record or [name for name in FILES if (folder / name).is_file()]
        files = [CONFIG]
        if weights:
            files += [name for name in (PREPROCESSOR, PROCESSOR) if name in names]
            if not (finished or len(files) > 1 or "pretrained_cfg" in _json(folder / CONFIG)):
                raise Unusable(f"{PREPROCESSOR} is missing")  # only timm's layout needs none
            kind = next((name for name in (WEIGHTS, INDEX, PICKLE) if name in names), WEIGHTS)
            files += [kind, *shards_of(folder)] if kind == INDEX else [kind]
        asked = (repo, revision or "master")
        pins = [k.sha256 for k in KNOWN_MODELS.values() if (k.repo, k.revision or "master") == asked]
        for name in files:
            _check(folder / name, record, pins[0].get(name) if pins else None)
    except OSError as error:
        raise Unusable(f"it cannot be read ({error.strerror or error})") from error
    return tuple(files)


def _check(path: Path, record: Mapping[str, Any] | None, pinned: str | None) -> None:
    """One file: there, not damaged, the one that was downloaded, the one that is pinned."""
    if path.suffix == ".json":
        _json(path)
    elif not path.is_file() or not path.stat().st_size:
        raise Unusable(f"{path.name} is {'empty' if path.is_file() else 'missing'}")
    if record is not None:
        entry, stat = record.get(path.name), path.stat()
        if not isinstance(entry, dict):
            raise Unusable(f"a download of {path.name} was not finished")
        if (stat.st_size, stat.st_mtime_ns) != (entry.get("size"), entry.get("mtime_ns")) and (
            stat.st_size != entry.get("size") or sha256_of(path) != entry.get("sha256")
        ):
            raise Unusable(f"{path.name} is not the file that was downloaded")
    if pinned and sha256_of(path) != pinned.lower():
        raise Unusable(f"{path.name} does not have the SHA-256 {pinned} that it is pinned to")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np"):  # compares the header with the file's length
                pass
        except SafetensorError as error:
            raise Unusable(f"{path.name} is cut short or damaged ({error})") from error


def shards_of(folder: Path) -> list[str]:
    """The files that ``model.safetensors.index.json`` names. Raises Unusable if it names anything else."""
    table = _json(folder / INDEX).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    if not 0 < len(names) <= MAX_SHARDS or not all(map(_SHARD.fullmatch, names)):
        raise Unusable(f"{INDEX} does not name 1 to {MAX_SHARDS} files like model-00001-of-00002.safetensors")
    return names


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Unusable(f"{path.name} is missing")
    try:
        value = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_BYTES[".json"] else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unusable(f"{path.name} is not a JSON object")
    return value


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(folder: Path, files: Collection[str]) -> None:
    """Record ``files`` as they are now."""
    record = {}
    for name in files:
        stat, digest = (folder / name).stat(), sha256_of(folder / name)
        record[name] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest}
    (folder / RECORD).write_text(json.dumps({"version": 1, "files": record}, indent=1), encoding="utf-8")


def _read_record(folder: Path) -> dict[str, Any] | None:
    """None where this package has downloaded nothing; no files where the record is damaged."""
    if not (folder / RECORD).exists():
        return None
    files = _json(folder / RECORD).get("files")
    return files if isinstance(files, dict) else {}
