"""One download with ModelScope's client: exact file names, silent, bounded in time, complete or not at all.

The client resumes, compares SHA-256 and repeats what failed. Around it, here: files are chosen from the
repository's list by exact names, so that a path that leads elsewhere is never asked for; they are brought
into a folder beside the copy, checked there, and moved into its place; processes take turns. It happens in a
thread, so that the caller's can tell progress, give up, and be interrupted.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import re
import shutil
import socket
import threading
import time
import warnings
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy

from ..checkpoints.files import CONFIG, INDEX, MAX_JSON_BYTES, PREPROCESSOR, PROCESSOR, WEIGHTS_FILES, shards
from ..errors import CheckpointError, DownloadError, ModelError
from . import advice, cache
from .cache import RECORD, Snapshot

if TYPE_CHECKING:
    from . import Progress

CONNECT_TIMEOUT = 4.0  # seconds
MAX_WEIGHTS_BYTES = 50_000_000_000
_EXPECTED = re.compile(r"[a-z_.]+\.(json|safetensors|bin)|\w+-\d{5}-of-\d{5}\.(safetensors|bin)")
_running: set[Download] = set()


@dataclass(eq=False)
class Download:
    """One call of :func:`vit_pipeline.hub.download`; the first six fields are its arguments."""

    repo: str
    revision: str | None
    weights: bool
    refresh: bool
    cache_dir: str | Path | None
    token: str | None
    doing: str = "connecting"  #: then "listing", "waiting" for another process, "receiving"
    file: str = ""  #: the one that is being received
    note: str = ""  #: the client's last log line about a retry
    cancelled: threading.Event = field(default_factory=threading.Event)
    #: progress, None for another sign of life, or the end of it: a Snapshot or an Exception
    events: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        # read anew: the client reads its environment once a process
        self.endpoint = os.environ.get("MODELSCOPE_ENDPOINT", "").strip() or None
        self.url = self.endpoint or "https://modelscope.cn"
        if "://" not in self.url:
            self.url = f"https://{self.url}"  # as the client does
        self.token = self.token or os.environ.get("MODELSCOPE_API_TOKEN")  # None: the client's login
        if advice.in_the_open(self.url):
            self.token = ""  # none
        self.folder = cache.snapshot_folder(self.repo, self.revision, self.cache_dir)
        self.beside = self.folder.with_name(f".{self.folder.name}.new")

    def wait(self, timeout: float, progress: Progress) -> Snapshot:
        """Download, and give up after ``timeout`` seconds in which nothing happened."""
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
                    limit = min(timeout, CONNECT_TIMEOUT) if self.doing == "connecting" else timeout
                    if now - heard >= limit:
                        what = {"connecting": "unreachable", "waiting": "waiting"}.get(self.doing, "silent")
                        raise self.failed(what, seconds=limit, way="") from None
                    if self.doing in ("connecting", "listing") and now - begun >= 0.5 and not told:
                        told = True
                        progress("connecting to ModelScope", 0, 0)
                    continue
                heard = time.monotonic()
                if isinstance(event, Snapshot):
                    return event
                if isinstance(event, ModelError):
                    raise event
                if isinstance(event, Exception):
                    what, facts = advice.explain(self, event)
                    raise self.failed(what, **facts) from event
                if event:
                    progress(*event)
        except BaseException:
            self.cancelled.set()
            if self.doing == "receiving":  # the client shuts its sockets down within a tenth of a second
                thread.join(2)
            raise

    def failed(self, what: str, **facts: Any) -> DownloadError:
        """One line: which model, what happened (by ``advice.toml``), why a copy that is here will not do."""
        text = advice.words(self, what, **facts)
        if os.access(self.folder, os.R_OK):
            where = f"the copy in {self.folder} cannot be used"
            try:
                cache.examine(self.folder, self.repo, self.revision, where, weights=self.weights)
            except CheckpointError as error:
                text += f" [{error}]"
        return DownloadError(f"{self.repo}{f'@{self.revision}' if self.revision else ''}: {text}")

    def _run(self) -> None:
        _running.add(self)
        try:
            self.events.put(self._download())
        except Exception as error:
            self.events.put(error)
        finally:
            _running.discard(self)

    def _now(self, doing: str, file: str = "") -> None:
        if self.cancelled.is_set():
            raise InterruptedError
        self.doing, self.file = doing, file
        self.events.put(None)

    def _download(self) -> Snapshot:
        self._connect()
        self._now("listing")
        client = functools.partial(_client(), token=self.token)
        api = client(endpoint=self.endpoint)
        with suppress(Exception):  # without MODELSCOPE_ENDPOINT: which of its two sites has the repository
            api = client(endpoint=api.resolve_endpoint_for_read(self.repo))
        files = api.list_repo_files(self.repo, "model", revision=self.revision, recursive=False)
        offered = {file.path: file for file in files if _EXPECTED.fullmatch(str(file.path))}
        names = self._choose(offered)
        with self._turn():
            where: dict[str, Any] = {"weights": self.weights, "cache_dir": self.cache_dir}
            if not self.refresh and (found := cache.find_cached(self.repo, self.revision, **where)):
                return found  # downloaded by another process while this one waited
            self.beside.mkdir(parents=True, exist_ok=True)
            try:
                weights = names[-1]
                for name in names:  # grows by the shards
                    if name not in offered:
                        raise CheckpointError(f"{self.repo}: {name} is missing, which {weights} names")
                    self._receive(api, offered[name])
                    if name.endswith(INDEX):
                        names += [path.name for path in shards(self.beside / name, self.repo)]
                _drop_others(self.beside, names)
                cache.write_record(self.beside, names)
                cache.examine(self.beside, self.repo, self.revision, self.repo, weights=self.weights)
            except CheckpointError as error:
                shutil.rmtree(self.beside, ignore_errors=True)
                raise CheckpointError(f"{error}; so it is on the hub too: tell its owner") from error
            self._install(names)
        return Snapshot(self.repo, self.revision or "master", self.folder, tuple(names), downloaded=True)

    def _connect(self) -> None:
        """Find out at once when there is no way to the hub; the client would try for half a minute."""
        proxy = select_proxy(self.url, get_environ_proxies(self.url))
        way = urlsplit(self.url if not proxy else proxy if "://" in proxy else f"http://{proxy}")
        try:
            port = way.port or (443 if way.scheme == "https" else 80)
            socket.create_connection((way.hostname, port), CONNECT_TIMEOUT).close()
        except OSError as error:
            raise advice.Unreachable(f" through the proxy {way.hostname}" if proxy else "") from error

    def _choose(self, offered: dict[str, Any]) -> list[str]:
        weights = [name for name in WEIGHTS_FILES if name in offered]
        if CONFIG not in offered:
            raise self.failed("no_config")
        if not self.weights:
            return [CONFIG]
        if not weights:
            raise self.failed("no_weights")
        return [CONFIG, *(name for name in (PREPROCESSOR, PROCESSOR) if name in offered), weights[0]]

    def _turn(self) -> AbstractContextManager[object]:
        """One process at a time; the others wait for as long as the one makes progress."""
        from filelock import FileLock, Timeout

        locks = cache.cache_folder(self.cache_dir) / ".lock"  # the client's own place for such files
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
            with suppress(OSError):  # none here, there already, or a disk without links
                (self.beside / file.path).hardlink_to(self.folder / file.path)  # replaced if it differs
        api.downloader.download_file(
            self.repo,
            "model",
            file.path,
            revision=self.revision,
            cache_dir=cache.cache_folder(self.cache_dir),
            local_dir=self.beside,
            expected_sha256=file.sha256,
            file_size=file.size or None,
            progress_callbacks=[functools.partial(_Reporter, self.events)],
            _cancel_event=self.cancelled,  # private
        )

    def _install(self, names: list[str]) -> None:
        """Once the record is in its place, a mixture of old and new files is not taken for a copy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # no record beside a config alone: weights may be put there by hand
        if self.weights or (self.folder / RECORD).exists():
            (self.beside / RECORD).replace(self.folder / RECORD)
        for name in names:
            (self.beside / name).replace(self.folder / name)
        if self.weights:
            _drop_others(self.folder, names)
        shutil.rmtree(self.beside, ignore_errors=True)


def _drop_others(folder: Path, names: list[str]) -> None:
    """Delete what was downloaded before, and is no longer in the repository."""
    for name in {PREPROCESSOR, PROCESSOR, *WEIGHTS_FILES} - {*names}:
        (folder / name).unlink(missing_ok=True)


class _Reporter:
    """The client makes one for each file that it receives."""

    def __init__(self, events: queue.SimpleQueue[Any], name: str, total: int) -> None:
        self.events, self.name, self.total, self.done = events, name, total, 0
        self.update(0)

    def update(self, size: int) -> None:
        self.done += size
        self.events.put((self.name, self.done, self.total))

    def end(self) -> None:
        pass


@functools.cache
def _client() -> Any:
    """ModelScope's client, which draws bars and writes log lines: not while a download of ours runs."""
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
