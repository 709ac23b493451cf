"""Run ModelScope's client: exact file names, silent, bounded in time, its errors in one line of ours.

``modelscope.snapshot_download`` runs in a thread of its own while the caller's thread waits for its signs of
life. That makes a stalled server and Ctrl-C end the wait, and calls ``progress`` in the caller's thread. A
download that is given up is cancelled through the client's own switch (its sockets are shut down within a
tenth of a second); should a later client no longer have that switch, the thread, a daemon, ends at the
client's own time-outs (``MODELSCOPE_DOWNLOAD_TIMEOUT``, 60 s). What was received stays as ``.incomplete``
and the next download continues it.

Which files are wanted, and whether they make a model, is decided in ``hub``; what an error means, in
``faults``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DownloadError
from .cache import MAX_BYTES, cache_folder
from .faults import Stalled, TooLarge, explain, token_for

Progress = Callable[[str, int, int], None]
_Event = tuple[str, int, int]

#: The client's logging and switches belong to the process, so its downloads take turns.
_turn = threading.Lock()
_GRACE = 2.0  # seconds for a cancelled download to end


def fetch(
    repo: str,
    revision: str | None,
    folder: Path,
    names: tuple[str, ...],
    *,
    timeout: float,
    progress: Progress,
) -> None:
    """Bring those of ``names`` that the repository has into ``folder``, checked against the hub's hashes.

    Args:
        timeout: seconds without any progress (a received block, a finished file) after which to give up.
        progress: called in this thread with (file name, bytes done, bytes in all or 0 when not known).

    Raises:
        DownloadError: with the model's name and what to do.
    """
    endpoint = os.environ.get("MODELSCOPE_ENDPOINT") or None  # read anew: the client reads it once a process
    notes: list[str] = []
    try:
        client = _import_client()
        with _turn, _hushed(notes), _cancellable() as cancel:
            _run(
                lambda events: client(
                    repo,
                    revision=revision,
                    local_dir=str(folder),  # the client's own place; keeps it from reusing an old layout's
                    cache_dir=str(cache_folder()),
                    allow_patterns=list(names),
                    endpoint=endpoint,
                    token=token_for(endpoint),
                    progress_callbacks=[_reporter(events)],
                ),
                timeout,
                progress,
                cancel,
            )
    except Exception as error:
        if getattr(error, "from_progress", False):
            raise
        model = f"{repo}@{revision}" if revision else repo
        raise DownloadError(explain(error, model, revision, endpoint, timeout, notes)) from error


def _import_client() -> Callable[..., str]:
    """Import modelscope without what it does to the process's logging."""
    levels = [(handler, handler.level) for handler in logging.root.handlers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from modelscope import snapshot_download
    finally:
        for handler, level in levels:
            handler.setLevel(level)
    return snapshot_download  # type: ignore[no-any-return]


def _run(
    call: Callable[[queue.SimpleQueue[_Event | None]], object],
    timeout: float,
    progress: Progress,
    cancel: Callable[[], None],
) -> None:
    events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call(events)
        except BaseException as error:  # handed to the waiting thread
            raised.append(error)
        finally:
            events.put(None)

    thread = threading.Thread(target=work, name="vit-pipeline-download", daemon=True)
    thread.start()
    try:
        for name, done, total in _signs_of_life(events, timeout):
            if max(done, total) > MAX_BYTES[name]:
                raise TooLarge(f"{name} has {max(done, total)} bytes; at most {MAX_BYTES[name]} are taken")
            try:
                progress(name, done, total)
            except Exception as error:
                error.from_progress = True  # type: ignore[attr-defined]
                raise
    except BaseException:
        cancel()
        thread.join(_GRACE)
        raise
    if raised:
        raise raised[0]


def _signs_of_life(events: queue.SimpleQueue[_Event | None], timeout: float) -> Iterator[_Event]:
    heard = time.monotonic()
    while True:
        try:
            event = events.get(timeout=0.2)  # short: on Windows Ctrl-C waits for it
        except queue.Empty:
            if time.monotonic() - heard >= timeout:
                raise Stalled from None
            continue
        if event is None:
            return
        heard = time.monotonic()
        yield event


def _reporter(events: queue.SimpleQueue[_Event | None]) -> type:
    """The client takes a class and makes one instance for each file that it downloads."""

    class Reporter:
        def __init__(self, filename: str, file_size: int) -> None:
            self.name, self.total, self.done = filename, file_size, 0
            self.update(0)

        def update(self, size: int) -> None:
            self.done += size
            events.put((self.name, self.done, self.total))

        def end(self) -> None:
            pass

    return Reporter


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Callable[[Any], Any]) -> Iterator[None]:
    """Swap one name of the client's while a download runs; nothing where a later client has it no more."""
    if not hasattr(owner, name):
        yield
        return
    original = getattr(owner, name)
    setattr(owner, name, value(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


class _NoBar(contextlib.AbstractContextManager["_NoBar"]):
    """In the place of tqdm, which the client draws whatever its callbacks are."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        pass

    def update(self, n: float = 1) -> None:
        pass


@contextlib.contextmanager
def _hushed(notes: list[str]) -> Iterator[None]:
    """Keep the client's log lines and bars off the terminal; the lines go to ``notes``."""
    from modelscope_hub import _download

    def note(record: logging.LogRecord) -> bool:
        notes.append(record.getMessage())
        return False

    handlers = [h for name in ("modelscope", "modelscope_hub") for h in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(note)
    try:
        with _replaced(_download, "tqdm", lambda _: _NoBar):
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(note)


@contextlib.contextmanager
def _cancellable() -> Iterator[Callable[[], None]]:
    """Collect the client's cancel events, which it shares with its workers but does not hand out."""
    from modelscope_hub import _download_control

    cancelled = threading.Event()
    found: list[threading.Event] = []

    def collecting(original: Callable[..., None]) -> Callable[..., None]:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            found.append(self.cancel_event)
            if cancelled.is_set():
                self.cancel_event.set()

        return init

    def cancel() -> None:
        cancelled.set()
        for event in found:
            event.set()

    control = getattr(_download_control, "_DownloadControl", None)
    with _replaced(control, "__init__", collecting) if control else contextlib.nullcontext():
        yield cancel
