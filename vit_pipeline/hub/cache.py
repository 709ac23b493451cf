"""Complete copies of a checkpoint on this disk: in ModelScope's cache, then in Hugging Face's. No network.

The clients accept any folder that is not empty. Here a copy counts only if its JSON parses, its weights are
as long as their headers say, and the files that this package downloaded are unchanged: same size and time
stamp, or else same SHA-256. A record lists the files of one download, so a mixture of revisions never counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
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
    revision: str  #: as given, or ``master``; in Hugging Face's cache the commit
    folder: Path
    files: tuple[str, ...]  #: their names
    source: str = "ModelScope"  #: or "Hugging Face cache"
    downloaded: bool = False  #: by this call


def find_cached(
    repo: str, revision: str | None = None, *, weights: bool = True, cache_dir: str | Path | None = None
) -> Snapshot | None:
    """A complete copy on this disk, or None. Needs no network and does not import modelscope.

    Args:
        repo: ``owner/name``.
        revision: branch or tag; None is ``master``, or ``main`` in Hugging Face's cache.
        weights: False if ``config.json`` is enough.
        cache_dir: look only there, in the layouts of both clients.

    Raises:
        ModelNameError: ``repo`` or ``revision`` cannot be a name on a hub.
    """
    check_repo(repo, revision)
    folders = [snapshot_folder(repo, revision, cache_dir)]
    if revision is None:  # clients before 1.38 kept it elsewhere; today's still looks there
        owner, name = repo.split("/")
        for leaf in (f"{owner}/{name.replace('.', '___')}", repo):
            folders += [cache_folder(cache_dir) / top / leaf for top in ("models", "hub/models", "", "hub")]
    for folder in folders:
        with suppress(CheckpointError):
            names = examine(folder, repo, revision, repo, weights=weights)
            return Snapshot(repo, revision or "master", folder, names)

    from huggingface_hub import try_to_load_from_cache

    with suppress(CheckpointError, ValueError, OSError):  # ValueError: not a valid name there
        config, preprocessor = (
            try_to_load_from_cache(repo, file, cache_dir=cache_dir, revision=revision)
            for file in (CONFIG, PREPROCESSOR)
        )
        if isinstance(config, str):
            folder, finished = Path(config).parent, preprocessor is not None  # a path, or known not to exist
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
    """The files of the complete copy in ``folder``: only the configuration, or with ``weights`` all of them.

    Args:
        where: the copy, as messages name it.
        finished: the download is known to have ended, as a record proves. Otherwise a copy without
            preprocessing is taken for one that was interrupted.

    Raises:
        CheckpointError: it is incomplete, or damaged, or not what ``models.toml`` pins.
    """
    try:
        record = None
        if (folder / RECORD).exists():  # this package has downloaded it; a damaged record lists no files
            record = read_json(folder / RECORD, where).get("files")
            record = record if isinstance(record, dict) else {}
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
    """One file: it exists, is the one that was downloaded and the one that is pinned, and is not damaged."""
    files.check_file(path, where)
    if record is not None:
        entry = record.get(path.name)
        if not isinstance(entry, dict):
            raise CheckpointError(f"{where}: {path.name} is not part of a finished download")
        if not _stamp(path).items() <= entry.items() and sha256_of(path) != entry.get("sha256"):
            raise CheckpointError(f"{where}: {path.name} is not the file that was downloaded")
    if pinned and sha256_of(path) != pinned.lower():
        raise CheckpointError(f"{where}: {path.name} does not have the SHA-256 {pinned} that it is pinned to")
    if path.suffix == ".json":
        read_json(path, where)
    elif path.suffix == ".safetensors":
        files.open_safetensors(path, where)


def write_record(folder: Path, names: Iterable[str]) -> None:
    """Record these files as they are now."""
    record = {name: _stamp(folder / name) | {"sha256": sha256_of(folder / name)} for name in names}
    (folder / RECORD).write_text(json.dumps({"files": record}, indent=1), encoding="utf-8")


def _stamp(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
