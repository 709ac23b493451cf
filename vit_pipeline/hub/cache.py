"""Complete copies of a checkpoint on this disk: in ModelScope's cache, then in Hugging Face's. No network.

The clients take any folder that is not empty. Here a copy counts when its JSON parses, its weights are as
long as their headers say, and, where this package downloaded it, each file is the one recorded then: by size
and time stamp, or else by SHA-256. A record lists the files of one download, so a mixture of two revisions is
never taken for either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints import files
from ..checkpoints.files import CONFIG, PREPROCESSOR, PROCESSOR, read_json, sha256_of
from ..errors import CheckpointError
from ..names import KNOWN_MODELS, check_repo

RECORD = ".vit-pipeline.json"


@dataclass(frozen=True)
class Snapshot:
    """The files of one repository on this disk."""

    repo: str  #: ``owner/name``
    revision: str  #: as asked for, or ``master``; of Hugging Face's cache the commit
    folder: Path
    files: tuple[str, ...]  #: their names
    source: str = "ModelScope"  #: or "Hugging Face cache"
    downloaded: bool = False  #: just now


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
        with suppress(CheckpointError):
            names = examine(folder, repo, revision, repo, weights=weights)
            return Snapshot(repo, revision or "master", folder, names)

    from huggingface_hub import try_to_load_from_cache

    with suppress(CheckpointError, ValueError, OSError):  # ValueError: no name over there
        config, preprocessor = (
            try_to_load_from_cache(repo, file, cache_dir=cache_dir, revision=revision)
            for file in (CONFIG, PREPROCESSOR)
        )
        if isinstance(config, str):
            folder = Path(config).parent
            # not None is a path, or the client's note that the repository has no such file
            finished = preprocessor is not None
            names = examine(folder, repo, revision, repo, weights=weights, finished=finished)
            return Snapshot(repo, folder.name, folder, names, "Hugging Face cache")
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
    folder: Path, repo: str, revision: str | None, where: str, *, weights: bool = True, finished: bool = False
) -> tuple[str, ...]:
    """The files of the complete copy in ``folder``: the configuration, or with ``weights`` all of them.

    Args:
        where: the copy, as messages name it.
        finished: no file of the repository is missing, as is certain with a record. Otherwise a copy without
            preprocessing is taken for one that was cut short.

    Raises:
        CheckpointError: it is not complete, or damaged, or not what ``models.toml`` pins.
    """
    try:
        record = _read_record(folder, where)
        names = [CONFIG]
        if weights:
            names += [name for name in (PREPROCESSOR, PROCESSOR) if (folder / name).exists()]
            if not (finished or record or names[1:] or "pretrained_cfg" in read_json(folder / CONFIG, where)):
                raise CheckpointError(f"{where}: {PREPROCESSOR} is missing")  # only timm's layout needs none
            names += [path.name for path in files.weights_files(folder, where)]
            names += [name for name in record or () if name not in names]
        asked = (repo, revision or "master")
        pins = [k.sha256 for k in KNOWN_MODELS.values() if (k.repo, k.revision or "master") == asked]
        for name in names:
            _check(folder / name, where, record, pins[0].get(name) if pins else None)
    except OSError as error:
        raise CheckpointError(f"{where}: it cannot be read ({error.strerror or error})") from error
    return tuple(names)


def _check(path: Path, where: str, record: Mapping[str, Any] | None, pinned: str | None) -> None:
    """One file: there, the one that was downloaded, the one that is pinned, not damaged."""
    files.check_file(path, where)
    if record is not None:
        entry, stat = record.get(path.name), path.stat()
        if not isinstance(entry, dict):
            raise CheckpointError(f"{where}: {path.name} is not part of a finished download")
        if (stat.st_size, stat.st_mtime_ns) != (entry.get("size"), entry.get("mtime_ns")) and (
            stat.st_size != entry.get("size") or sha256_of(path) != entry.get("sha256")
        ):
            raise CheckpointError(f"{where}: {path.name} is not the file that was downloaded")
    if pinned and sha256_of(path) != pinned.lower():
        raise CheckpointError(f"{where}: {path.name} does not have the SHA-256 {pinned} that it is pinned to")
    if path.suffix == ".json":
        read_json(path, where)
    elif path.suffix == ".safetensors":
        files.open_safetensors(path, where)


def write_record(folder: Path, names: Collection[str]) -> None:
    """Record these files as they are now."""
    record = {}
    for name in names:
        stat, digest = (folder / name).stat(), sha256_of(folder / name)
        record[name] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest}
    (folder / RECORD).write_text(json.dumps({"files": record}, indent=1), encoding="utf-8")


def _read_record(folder: Path, where: str) -> dict[str, Any] | None:
    """None where this package has downloaded nothing; no files where the record is damaged."""
    if not (folder / RECORD).exists():
        return None
    record = read_json(folder / RECORD, where).get("files")
    return record if isinstance(record, dict) else {}
