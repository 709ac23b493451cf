"""A download with ModelScope's client: exact file names, silent, bounded in time, complete or not at all.

The client resumes, compares SHA-256 and retries. This module adds the rest: it chooses files from the
repository's list by their exact names, so that a path that leads elsewhere is never requested; it downloads
them into a folder beside the copy, checks them there, and moves them into place; processes take turns. All of
this runs in a thread, so that the caller's thread can report progress, give up, and be interrupted.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import logging
import os
import queue
import re
import shutil
import socket
import threading
import time
import tomllib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from ..checkpoints.files import CONFIG, INDEX, MAX_JSON_BYTES, SETTINGS, WEIGHTS_FILES, shards
from ..errors import ArgumentError, CheckpointError, DownloadError, ModelError
from ..names import KNOWN_MODELS
from .cache import RECORD, Snapshot, cache_folder, examine, find_cached, snapshot_folder, write_record

Progress = Callable[[str, int, int], None]

CONNECT_TIMEOUT = 4.0  # seconds
MAX_WEIGHTS_BYTES = 50_000_000_000
_EXPECTED = re.compile(r"[a-z_.]+\.(json|safetensors|bin)|\w+-\d{5}-of-\d{5}\.(safetensors|bin)")
_TOML = tomllib.loads((Path(__file__).parent / "advice.toml").read_text(encoding="utf-8"))
_ADVICE = {cause: entry["text"] for entry in _TOML["advice"] for cause in entry["on"]}
_running: set[_Download] = set()


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

    It gives up after four seconds without a connection to the hub, and after ``VIT_PIPELINE_HUB_TIMEOUT``
    seconds (60) without a byte. What has arrived is kept, and the next download resumes.

    Args:
        repo: ``owner/name``.
        revision: branch or tag; None is ``master``. A copy of a branch is used as it is until ``refresh``.
        refresh: download all files that have changed, weights too. If it fails, the copy stays as it was.
        weights: False if ``config.json`` is enough; such a copy does not count as complete.
        progress: called in this thread with (file name, bytes done, bytes in total), and once with
            ("connecting to ModelScope", 0, 0) if there is no answer for half a second. An exception that it
            raises ends the download.
        cache_dir: where copies are kept; None is ``MODELSCOPE_CACHE``.
        local_files_only: never use the network.
        token: None is ``MODELSCOPE_API_TOKEN``, or the client's login. Over plain http it is sent to this
            machine only.

    Raises:
        ModelNameError: ``repo`` or ``revision`` cannot be a name on a hub.
        ArgumentError: ``VIT_PIPELINE_HUB_TIMEOUT`` is not a number of seconds.
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
    task = _Download(repo, revision, weights, refresh, cache_dir, token)
    if local_files_only:
        raise task.failed("local")
    return task.wait(timeout, progress or (lambda name, done, total: None))


@dataclass(eq=False)
class _Download:
    """One call of :func:`download`, whose arguments the first six fields are."""

    repo: str
    revision: str | None
    weights: bool
    refresh: bool
    cache_dir: str | Path | None
    token: str | None
    step: str = "connecting"  #: then "listing", "waiting" for another process, "receiving"
    file: str = ""  #: which is being received
    note: str = ""  #: the client's last log line about a retry

    def __post_init__(self) -> None:
        #: progress, None as another sign of life, or the end: a Snapshot or an Exception
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.cancelled = threading.Event()
        # The client reads its environment only once a process, so it is read here.
        self.endpoint = os.environ.get("MODELSCOPE_ENDPOINT", "").strip() or None
        self.url = hub_url()
        self.token = self.token or os.environ.get("MODELSCOPE_API_TOKEN")  # None: the client's login
        if in_the_open(self.url):
            self.token = ""  # none at all
        self.cache = cache_folder(self.cache_dir)
        self.folder = snapshot_folder(self.repo, self.revision, self.cache_dir)
        self.beside = self.folder.with_name(f".{self.folder.name}.new")

    def wait(self, timeout: float, progress: Progress) -> Snapshot:
        """Download in a thread; give up after ``timeout`` seconds in which nothing happened."""
        thread = threading.Thread(target=self._run, name="vit-pipeline-download", daemon=True)
        thread.start()
        begun = heard = time.monotonic()
        told = False
        try:
            while True:
                try:
                    event = self.events.get(timeout=0.1)  # short: on Windows Ctrl-C waits for it
                except queue.Empty:
                    now = time.monotonic()
                    limit = min(timeout, CONNECT_TIMEOUT) if self.step == "connecting" else timeout
                    if now - heard >= limit:
                        raise self.failed(self.step, seconds=limit) from None
                    if self.step in ("connecting", "listing") and now - begun >= 0.5 and not told:
                        told = True
                        progress("connecting to ModelScope", 0, 0)
                    continue
                heard = time.monotonic()
                if isinstance(event, Snapshot):
                    return event
                if isinstance(event, ModelError):
                    raise event
                if isinstance(event, Exception):
                    raise self._explained(event) from event
                if event:
                    progress(*event)
        except BaseException:
            self.cancelled.set()
            if self.step == "receiving":  # the client shuts its sockets down within a tenth of a second
                thread.join(2)
            raise

    def _explained(self, error: Exception) -> DownloadError:
        """The client's own messages, some in Chinese only and several lines long, stay in the cause."""
        if isinstance(error, ConnectionError) and not self.file:
            return self.failed("connecting")
        if isinstance(error.__cause__, OSError) and error.__cause__.errno:
            error = error.__cause__  # the client wraps an error of the disk
        names = [errno.errorcode.get(getattr(error, "errno", None) or 0, "")]
        names += [kind.__name__ for kind in type(error).__mro__]
        return self.failed(next(name for name in names if name in _ADVICE), error=error)

    def failed(self, what: str, **facts: Any) -> DownloadError:
        """One line: which model, what happened (by ``advice.toml``), why the copy on disk will not do."""
        same = [f"--model {k.name} is the same" for k in KNOWN_MODELS.values() if self.repo in k.same_as]
        usual = {
            "task": self,
            "hub": urlsplit(self.url).netloc.rpartition("@")[2],
            "branch": self.revision or "master",
            "way": "",
            "for_file": f" for {self.file}" if self.file else "",
            "elsewhere": same[0] if same else f"from Hugging Face: hf download {self.repo}",
        }
        text = f"{self.repo}{f'@{self.revision}' if self.revision else ''}: "
        text += _ADVICE[what].format(**usual | facts)
        if os.access(self.folder, os.R_OK):
            where = f"the copy in {self.folder} cannot be used"
            try:
                examine(self.folder, self.repo, self.revision, where, weights=self.weights)
            except CheckpointError as error:
                text += f" [{error}]"
        return DownloadError(text)

    def _run(self) -> None:
        _running.add(self)
        try:
            self.events.put(self._download())
        except Exception as error:
            self.events.put(error)
        finally:
            _running.discard(self)

    def _now(self, step: str, file: str = "") -> None:
        if self.cancelled.is_set():
            raise InterruptedError
        self.step, self.file = step, file
        self.events.put(None)

    def _download(self) -> Snapshot:
        """In the thread: list the files, receive them beside the copy, check them, move them into place."""
        self._connect()
        self._now("listing")
        client = functools.partial(_client(), token=self.token)
        api = client(endpoint=self.endpoint)
        with suppress(Exception):  # without MODELSCOPE_ENDPOINT: which of its two sites has the repository
            api = client(endpoint=api.resolve_endpoint_for_read(self.repo))
        files = api.list_repo_files(self.repo, "model", revision=self.revision, recursive=False)
        offered = {file.path: file for file in files if _EXPECTED.fullmatch(str(file.path))}
        weights = [name for name in WEIGHTS_FILES if name in offered]
        if CONFIG not in offered:
            raise self.failed("no_config")
        if self.weights and not weights:
            raise self.failed("no_weights")
        names = [CONFIG]
        if self.weights:
            names += [name for name in SETTINGS if name in offered] + weights[:1]
        with self._turn():
            where: dict[str, Any] = {"weights": self.weights, "cache_dir": self.cache_dir}
            if not self.refresh and (found := find_cached(self.repo, self.revision, **where)):
                return found  # downloaded by another process while this one waited
            self.beside.mkdir(parents=True, exist_ok=True)
            try:
                for name in names:  # grows by the shards
                    if name not in offered:
                        raise CheckpointError(f"{self.repo}: {name} is missing, which {weights[0]} names")
                    self._receive(api, offered[name])
                    if name.endswith(INDEX):
                        names += [path.name for path in shards(self.beside / name, self.repo)]
                _drop_others(self.beside, names)
                write_record(self.beside, names)
                examine(self.beside, self.repo, self.revision, self.repo, weights=self.weights)
            except CheckpointError as error:
                shutil.rmtree(self.beside, ignore_errors=True)
                raise CheckpointError(
                    f"{error}; it is the same on the hub, so tell the repository's owner"
                ) from error
            self._install(names)
        return Snapshot(self.repo, self.revision or "master", self.folder, tuple(names), downloaded=True)

    def _connect(self) -> None:
        """Find out at once that the hub cannot be reached; the client would try for half a minute."""
        from requests.utils import get_environ_proxies, select_proxy

        proxy = select_proxy(self.url, get_environ_proxies(self.url))
        way = urlsplit(self.url if not proxy else proxy if "://" in proxy else f"http://{proxy}")
        try:
            port = way.port or (443 if way.scheme == "https" else 80)
            socket.create_connection((way.hostname, port), CONNECT_TIMEOUT).close()
        except OSError as error:
            raise self.failed(
                "connecting", way=f" through the proxy {way.hostname}" if proxy else ""
            ) from error

    def _turn(self) -> AbstractContextManager[object]:
        """One process at a time; the others wait for as long as that one makes progress."""
        from filelock import FileLock, Timeout

        locks = self.cache / ".lock"  # where the client has its own
        locks.mkdir(parents=True, exist_ok=True)
        name = f"{self.repo}@{self.revision}".replace("/", "--")
        lock, seen = FileLock(locks / f"vit-pipeline-{name}.lock"), -1
        while True:
            try:
                return lock.acquire(timeout=0.2)
            except Timeout:
                with suppress(FileNotFoundError):
                    size = sum(path.stat().st_size for path in self.beside.glob("*"))
                    if size != seen or self.cancelled.is_set():
                        self._now("waiting")
                    seen = size

    def _receive(self, api: Any, file: Any) -> None:
        self._now("receiving", file.path)
        limit = MAX_JSON_BYTES if file.path.endswith(".json") else MAX_WEIGHTS_BYTES
        if file.size > limit:
            raise self.failed("too_large", size=file.size, limit=limit)
        if file.sha256:
            with suppress(OSError):  # no such file, one that is there already, or a disk without links
                (self.beside / file.path).hardlink_to(self.folder / file.path)  # replaced if it differs
        api.downloader.download_file(
            self.repo,
            "model",
            file.path,
            revision=self.revision,
            cache_dir=self.cache,
            local_dir=self.beside,
            expected_sha256=file.sha256,
            file_size=file.size or None,
            progress_callbacks=[self._reporter],
            _cancel_event=self.cancelled,  # private
        )

    def _reporter(self, name: str, size: int) -> object:
        """What the client makes for each file that it receives."""
        done = 0

        def update(received: int) -> None:
            nonlocal done
            done += received
            self.events.put((name, done, size))

        update(0)
        return SimpleNamespace(update=update, end=lambda: None)

    def _install(self, names: list[str]) -> None:
        """The record first: from then on a mixture of old and new files does not count as a copy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Beside a config alone there is no record: the weights may be put there by hand.
        recorded = self.weights or (self.folder / RECORD).exists()
        for name in [RECORD, *names] if recorded else names:
            (self.beside / name).replace(self.folder / name)
        if self.weights:
            _drop_others(self.folder, names)
        shutil.rmtree(self.beside, ignore_errors=True)


def hub_url() -> str:
    """Where ModelScope is: ``MODELSCOPE_ENDPOINT``, completed as its client does, or its public site."""
    url = os.environ.get("MODELSCOPE_ENDPOINT", "").strip() or "https://modelscope.cn"
    return url if "://" in url else f"https://{url}"


def in_the_open(url: str) -> bool:
    """Whether anyone on the way can read what is sent to ``url``."""
    parts = urlsplit(url)
    try:
        here = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        here = parts.hostname == "localhost"
    return parts.scheme == "http" and not here


def _drop_others(folder: Path, names: list[str]) -> None:
    """Delete what was downloaded earlier and is no longer in the repository."""
    for name in {*SETTINGS, *WEIGHTS_FILES} - {*names}:
        (folder / name).unlink(missing_ok=True)


@functools.cache
def _client() -> Any:
    """ModelScope's client, without its progress bars and log lines while a download of ours runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from modelscope_hub import HubApi, _download

    def heard(record: logging.LogRecord) -> bool:
        for task in tuple(_running):
            if "retry" in record.getMessage():
                task.note = f" ({record.getMessage()})"
        return not _running

    for handler in logging.getLogger("modelscope_hub").handlers:
        handler.addFilter(heard)
    module: Any = _download  # private, and its tqdm
    bar = module.tqdm
    module.tqdm = lambda *args, **options: bar(*args, **options | {"disable": bool(_running)})
    return HubApi
