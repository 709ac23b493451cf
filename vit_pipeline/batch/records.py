"""The working file of a long run: a header line, then one JSON record a line, in input order.

It survives being killed, a full disk and a pulled plug: a batch is appended in one piece, a half-written last
line is cut off when the file is opened again, and what cannot be written is taken back. One run at a time
holds it. Leaves out: what is in the records (``batch``), the tables made of them (``tables``).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import OutputError

HEADER = "vit_pipeline"
#: said in the header, but free to differ when a run goes on: the results stay the same
FREE = frozenset(("model", "from", "revision", "batch_size"))
SYNC_SECONDS = 5.0  #: what a pulled plug may cost
_LONGEST_HEADER = 1_000_000


class RecordFile:
    """An open working file that no other run holds; a context manager.

    Args:
        path: created where it is not there.
        header: what the records depend on. A file with another header is refused, ``FREE`` entries apart.
        lock: keep other runs out.

    Raises:
        OutputError: another run holds the file, it is of another model or other settings, it is damaged, or
            the system refuses.
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any], *, lock: bool = True) -> None:
        self.path = Path(os.path.realpath(path))  # one lock, whatever the file is called
        self.end = 0  #: where the last whole record ends, in bytes
        self._read = False
        self._synced = time.monotonic()
        if not self.path.parent.is_dir():  # the lock would create it
            raise OutputError(f"{path}: there is no folder {self.path.parent}; create it first")
        self._lock = FileLock(f"{self.path}.lock", blocking=False) if lock else None
        self._descriptor: int | None = None
        try:
            if self._lock:
                self._lock.acquire()
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
        except Timeout as error:
            raise OutputError(
                f"{path}: another run is writing to it; wait, or give another output"
            ) from error
        except (OSError, NotImplementedError) as error:
            self.close()
            raise OutputError(f"{path}: cannot be written: {_reason(error)}") from error
        try:
            self._open_header(json.loads(to_line({HEADER: header})))  # as in a file: tuples become lists
        except BaseException:
            self.close()
            raise

    def _open_header(self, wanted: dict[str, Any]) -> None:
        with self.path.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
        if not line.endswith(b"\n") and to_line(wanted).startswith(line):  # new, or killed at its first line
            self._append(to_line(wanted))
            self._sync()
            return
        found = (_parse(line) or {}).get(HEADER)
        if not isinstance(found, dict):
            raise OutputError(f"{self.path}: is there already, not written by classify; give another output")
        if different := differences(found, wanted[HEADER]):
            raise OutputError(
                f"{self.path}: its results are of other settings ({'; '.join(different)}); "
                "use those again, or give another output"
            )
        self.end = len(line)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records that are there, one at a time; a half-written last line is left out.

        Raises:
            OutputError: a line in the middle is damaged.
        """
        end = 0
        for record, length in _scan(self.path):
            end += length
            self.end = max(self.end, end)
            if HEADER not in record:
                yield record
        self._read = True

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records in one piece. Raises OutputError; then none of these records is in the file."""
        if not self._read:  # the end is not known yet
            deque(self.records(), maxlen=0)
        self._append(b"".join(to_line(record) for record in records))
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def _append(self, data: bytes) -> None:
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, self.end)  # a half-written line goes
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # the next run cuts off what cannot be taken back now
                os.ftruncate(self._descriptor, self.end)
            raise OutputError(
                f"{self.path}: cannot be written: {_reason(error)}; "
                "what is in it is whole: make room, and run the same command again"
            ) from error
        self.end += len(data)

    def _sync(self) -> None:
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {_reason(error)}") from error
        self._synced = time.monotonic()

    def take_place_of(self, other: RecordFile) -> None:
        """Rename this file to the name of ``other``, which goes on with it and keeps its lock."""
        self._sync()
        try:
            os.replace(self.path, other.path)  # noqa: PTH105
        except OSError as error:
            raise OutputError(f"{other.path}: cannot be replaced: {_reason(error)}") from error
        self._descriptor, other._descriptor = other._descriptor, self._descriptor
        other.end, other._read = self.end, self._read

    def close(self) -> None:
        """Write all to the disk, and let others in."""
        descriptor, self._descriptor = self._descriptor, None
        try:
            if descriptor is not None:
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {_reason(error)}") from error
        finally:
            if self._lock and self._lock.is_locked:
                with contextlib.suppress(OSError):  # Windows keeps open files
                    os.unlink(self._lock.lock_file)  # noqa: PTH108
                self._lock.release()

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_records(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a working file, one at a time, without the header. Raises OutputError if damaged."""
    return (record for record, _ in _scan(Path(path)) if HEADER not in record)


def read_header(path: str | Path) -> dict[str, Any]:
    """What the records of a working file depend on. Raises OutputError where it is none."""
    with Path(path).open("rb") as file:
        header = (_parse(file.readline(_LONGEST_HEADER)) or {}).get(HEADER)
    if not isinstance(header, dict):
        raise OutputError(f"{path}: not written by classify")
    return header


def to_line(record: Mapping[str, Any]) -> bytes:
    """One line of JSON, in UTF-8; names of files that are not text are escaped."""
    text = json.dumps(record, ensure_ascii=False) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        return (json.dumps(record) + "\n").encode()


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two headers, in words: ``dtype was float32, is bfloat16``."""
    said = []
    for key in sorted((found.keys() | wanted.keys()) - FREE):
        before, now = found.get(key), wanted.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            said += [f"{key} {text}" for text in differences(before, now)]
        else:
            said.append(f"{key} was {_short(before)}, is {_short(now)}")
    return said


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _scan(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Every whole line of a working file, and its length in bytes."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            record = _parse(line)
            if record is None or not (HEADER in record if number == 1 else "source" in record):
                raise OutputError(
                    f"{path}: line {number:,} is damaged; delete it and those below it, then go on from there"
                )
            yield record, len(line)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
