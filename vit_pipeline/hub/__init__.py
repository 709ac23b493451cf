"""ModelScope: a repository's name becomes a folder with the files of one ViT classifier.

::

    find_cached(repo, revision)   a complete copy on disk, or None; no network, modelscope not imported
    download(repo, revision)      the same, downloaded where there is none

- Exact file names only are asked for, so that a listing with ``../`` or absolute paths writes nothing
  elsewhere: ``config.json``, ``preprocessor_config.json``, ``model.safetensors``, and ``pytorch_model.bin``
  where there are no safetensors.
- A revision is a branch or a tag. Without one it is ``master``; a cached copy of a branch is used as it is
  until ``refresh=True`` asks the hub for a newer one.
- Two processes that want the same model take turns; the second finds the first one's copy. A killed process
  leaves no lock behind.
- The environment, as for ModelScope's client: ``MODELSCOPE_ENDPOINT``, ``MODELSCOPE_CACHE``,
  ``MODELSCOPE_API_TOKEN`` (not sent over plain http except to this machine). ``VIT_PIPELINE_HUB_TIMEOUT``:
  seconds.

What the files hold is checked in ``checkpoint`` and ``loading``. Files that a repository has removed since
stay in a refreshed copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ArgumentError, CheckpointError, DownloadError, ModelNameError
from .cache import (
    CONFIG,
    PICKLE,
    PREPROCESSOR,
    RECORD,
    WEIGHTS,
    cache_folder,
    examine,
    has_record,
    old_folders,
    read_record,
    sha256_of,
    snapshot_folder,
    write_record,
)
from .client import Progress, fetch
from .faults import storage_advice

__all__ = ["FILES", "PICKLE", "Progress", "Snapshot", "cache_folder", "download", "find_cached"]

FILES = (CONFIG, PREPROCESSOR, WEIGHTS)
DEFAULT_TIMEOUT = 60.0  # seconds without progress
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class Snapshot:
    """The files of one repository on disk.

    Attributes:
        repo: ``owner/name``.
        revision: as asked for; ``master`` when none was.
        folder: where the files are.
        files: their names; ``pytorch_model.bin`` in the place of ``model.safetensors`` where there is none.
        downloaded: False when a cached copy was used.
    """

    repo: str
    revision: str
    folder: Path
    files: tuple[str, ...]
    downloaded: bool


def find_cached(repo: str, revision: str | None = None, *, weights: bool = True) -> Snapshot | None:
    """A complete copy on this disk, or None. Needs no network and does not import modelscope.

    Args:
        repo: ``owner/name``.
        revision: branch or tag; None is ``master``, for which copies made by clients before 1.38 count too.
        weights: False when ``config.json`` is enough.

    Raises:
        ModelNameError: if ``repo`` or ``revision`` cannot be a name on the hub.
    """
    _check_names(repo, revision)
    folders = [snapshot_folder(repo, revision), *(old_folders(repo) if revision is None else ())]
    for folder in folders:
        copy = examine(folder, weights=weights)
        if not copy.fault:
            return Snapshot(repo, revision or "master", folder, copy.files, downloaded=False)
    return None


def download(
    repo: str,
    revision: str | None = None,
    *,
    refresh: bool = False,
    weights: bool = True,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """The files of ``repo``: the complete copy on this disk, or else downloaded from ModelScope.

    Args:
        repo: ``owner/name``.
        revision: branch or tag; None is ``master``.
        refresh: ask the hub for newer files even if there is a complete copy. If that fails, the copy stays
            as it was.
        weights: False downloads ``config.json`` only; such a copy is not complete.
        timeout: seconds without any progress after which to give up; None is ``VIT_PIPELINE_HUB_TIMEOUT``,
            or 60. A slow download is not cut off while bytes arrive (the client itself ends a connection
            below 1 KiB/s, and a file after one hour). The client's retries happen within it.
        progress: called in this thread with (file name, bytes done, bytes in all or 0 when not known); what
            it raises ends the download. Without it nothing is shown.

    Raises:
        ModelNameError: if ``repo`` or ``revision`` cannot be a name on the hub.
        ArgumentError: if ``timeout`` makes no sense.
        DownloadError: if the hub did not deliver, or the cache cannot be written.
        CheckpointError: if what the hub has is no whole checkpoint.
    """
    _check_names(repo, revision)
    seconds = _seconds(timeout)
    if not refresh and (found := find_cached(repo, revision, weights=weights)):
        return found
    folder = snapshot_folder(repo, revision)
    try:
        with _locked(repo, folder, seconds):
            # another process may have brought it while this one waited
            if not refresh and (found := find_cached(repo, revision, weights=weights)):
                return found
            return _download(repo, revision, folder, weights, seconds, progress)
    except OSError as error:
        if getattr(error, "from_progress", False):
            raise
        advice = storage_advice(error) or f"{folder} cannot be used: {error.strerror or error}"
        raise DownloadError(f"{_model(repo, revision)}: {advice}") from error


def _download(
    repo: str,
    revision: str | None,
    folder: Path,
    weights: bool,
    timeout: float,
    progress: Progress | None,
) -> Snapshot:
    report = progress or (lambda name, done, total: None)
    folder.mkdir(parents=True, exist_ok=True)
    before = examine(folder)
    if not has_record(folder):  # from here on the copy in this folder counts only as far as recorded
        write_record(folder, () if before.fault else before.files)
    record = read_record(folder)
    # what can be used stays usable until its successor is complete
    place = folder if before.fault else _beside(folder, before.files)
    try:
        fetch(repo, revision, place, FILES if weights else (CONFIG,), timeout=timeout, progress=report)
        copy = examine(place, weights=weights, use_record=False)
        if copy.missing == WEIGHTS or PICKLE in copy.files:
            fetch(repo, revision, place, (PICKLE,), timeout=timeout, progress=report)
            copy = examine(place, weights=weights, use_record=False)
    except DownloadError as error:
        if record and before.fault:
            raise DownloadError(f"{error} [the copy in {folder} cannot be used: {before.fault}]") from error
        raise
    finally:
        _tidy(folder)
    if copy.missing:
        name = f"neither {WEIGHTS} nor {PICKLE}" if copy.missing == WEIGHTS else f"no {copy.missing}"
        raise DownloadError(
            f"{_model(repo, revision)} has {name}; choose a ViT classifier as transformers or timm save one"
        )
    if copy.fault:
        raise CheckpointError(
            f"{_model(repo, revision)}: refused, {copy.fault}, on the hub too; tell its owner"
        )
    if place != folder:
        for name in copy.files:
            (place / name).replace(folder / name)
        shutil.rmtree(place, ignore_errors=True)
    # weights that belong to the same configuration stay on record when only that was asked for
    same = not weights and CONFIG in record and record[CONFIG].get("sha256") == sha256_of(folder / CONFIG)
    write_record(folder, copy.files, keep=record if same else {})
    return Snapshot(repo, revision or "master", folder, copy.files, downloaded=True)


def _beside(folder: Path, files: tuple[str, ...]) -> Path:
    """A folder to refresh in, with links to the present files: the client fetches only those that differ."""
    place = _new(folder)
    place.mkdir(exist_ok=True)
    for name in files:
        with contextlib.suppress(OSError):  # there already, or a disk without links: it is fetched
            (place / name).hardlink_to(folder / name)
    return place


def _new(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _tidy(folder: Path) -> None:
    """Leave no empty folders behind for a name that is not there."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [RECORD]:
            (folder / RECORD).unlink()
        for empty in (folder, *folder.parents):
            if empty == cache_folder():
                break
            empty.rmdir()  # raises when it is not empty


@contextlib.contextmanager
def _locked(repo: str, folder: Path, timeout: float) -> Iterator[None]:
    """One process at a time; the others wait for as long as the one makes progress."""
    from filelock import FileLock, Timeout

    locks = cache_folder() / ".lock"  # the client's own place for such files
    locks.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:32]
    lock = FileLock(locks / f"vit-pipeline-{name}.lock")
    seen, since = None, time.monotonic()
    while True:
        try:
            lock.acquire(timeout=min(0.5, timeout))
            break
        except Timeout:
            now = _listing(folder)
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since >= timeout:
                raise DownloadError(
                    f"{repo}: another process has been downloading it without progress for {timeout:g} s; "
                    "end that process, or try again later"
                ) from None
        except NotImplementedError:  # a disk without locks: the client still locks each file its own way
            yield
            return
    try:
        yield
    finally:
        lock.release()


def _listing(folder: Path) -> list[tuple[str, int]]:
    with contextlib.suppress(OSError):
        places = [place for place in (folder, _new(folder)) if place.is_dir()]
        return sorted((str(path), path.stat().st_size) for place in places for path in place.iterdir())
    return []


def _seconds(timeout: float | None) -> float:
    name = "VIT_PIPELINE_HUB_TIMEOUT" if timeout is None else "timeout"
    value = (os.environ.get(name) or DEFAULT_TIMEOUT) if timeout is None else timeout
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds > 0:
        raise ArgumentError(f"{name} is {value!r}; it must be a number of seconds above 0")
    return seconds


def _model(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo


def _check_names(repo: str, revision: str | None) -> None:
    """Both become parts of a path, so nothing passes that could lead out of the cache."""
    parts = repo.split("/")
    if len(parts) != 2 or not all(_PART.fullmatch(part) for part in parts):
        raise ModelNameError(f"{repo!r} is not a model on ModelScope; write owner/name")
    if revision is not None and not all(_PART.fullmatch(part) for part in revision.split("/")):
        raise ModelNameError(f"{repo}: {revision!r} is not a revision; give the name of a branch or tag")
