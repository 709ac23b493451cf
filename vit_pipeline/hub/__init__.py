"""Hubs: a repository's name becomes a folder with the files of one checkpoint.

::

    find_cached(repo, revision)   a complete copy on this disk, or None; no network, modelscope not imported
    download(repo, revision)      the same, downloaded from ModelScope where there is none

The environment, as for ModelScope's client: ``MODELSCOPE_ENDPOINT``, ``MODELSCOPE_CACHE``,
``MODELSCOPE_API_TOKEN``, proxies; as for Hugging Face's: ``HF_HUB_CACHE``, ``HF_HOME``. Of our own:
``VIT_PIPELINE_HUB_TIMEOUT``, seconds. What the files hold is checked in ``checkpoints`` and ``loading``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import ArgumentError
from .cache import Snapshot, find_cached

Progress = Callable[[str, int, int], None]

__all__ = ["Progress", "Snapshot", "download", "find_cached"]


def download(
    repo: str,
    revision: str | None = None,
    *,
    refresh: bool = False,
    weights: bool = True,
    progress: Progress | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Snapshot:
    """The files of ``repo``: the complete copy on this disk, or else downloaded from ModelScope.

    It gives up after ``VIT_PIPELINE_HUB_TIMEOUT`` seconds (60) without a byte, and after four without a way
    to the hub. What has arrived is kept, and the next download resumes.

    Args:
        repo: ``owner/name``.
        revision: branch or tag; None is ``master``. A copy of a branch is used as it is until ``refresh``.
        refresh: bring all files anew, as far as they differ. If that fails, the copy stays as it was.
        weights: False when ``config.json`` is enough; such a copy does not count as complete.
        progress: called in this thread with (file name, bytes done, bytes in all), and once with
            ("connecting to ModelScope", 0, 0) if there is no answer for half a second. What it raises ends
            the download.
        cache_dir: the place for copies; None is ``MODELSCOPE_CACHE``.
        local_files_only: never use the network.
        token: None is ``MODELSCOPE_API_TOKEN``, or the client's login. Over plain http it is sent to this
            machine only.

    Raises:
        ModelNameError: ``repo`` or ``revision`` cannot be a name on a hub.
        ArgumentError: ``VIT_PIPELINE_HUB_TIMEOUT`` is no number of seconds.
        DownloadError: the hub did not deliver, or the cache cannot be written.
        CheckpointError: what the hub has is not a complete checkpoint, or not the one in ``models.toml``.
    """
    given = os.environ.get("VIT_PIPELINE_HUB_TIMEOUT") or "60"
    try:
        timeout = float(given)
    except ValueError:
        timeout = 0
    if not timeout > 0:
        raise ArgumentError(f"VIT_PIPELINE_HUB_TIMEOUT is {given!r}; it must be seconds, more than 0")
    weights = weights or refresh
    found = find_cached(repo, revision, weights=weights, cache_dir=cache_dir)
    if found and (local_files_only or not refresh):
        return found
    from .client import Download

    task = Download(repo, revision, weights, refresh, cache_dir, token)
    if local_files_only:
        raise task.failed("local")
    return task.wait(timeout, progress or (lambda name, done, total: None))
