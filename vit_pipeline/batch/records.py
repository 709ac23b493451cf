"""The working file of a long run: a header line, then one JSON record a line, in input order.

It survives being killed, a full disk and a pulled plug: a batch is appended in one piece, a half-written last
line is cut off when the file is opened again, and what cannot be written is taken back. One run at a time
holds it. Leaves out: what is in the records (``folder``), the tables made of them (``tables``).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import OutputError, reason

Record = dict[str, Any]
HEADER = "vit_pipeline"
#: said in the header, but free to differ when a run resumes: the results stay the same
FREE = frozenset(("model", "from", "revision", "batch_size"))
SYNC_SECONDS = 5.0  #: what a pulled plug may cost
_LONGEST_HEADER = 1_000_000


class RecordFile:
    """An open working file that no other run holds; a context manager.

    Args:
        path: created where it is not there.
        header: what the records depend on. A file with another header is rejected, ``FREE`` entries apart.

    Raises:
        OutputError: another run holds the file, it is of another model or other settings, it is damaged, or
            the system does not allow it.
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any]) -> None:
        self.path = Path(os.path.realpath(path))  # one lock, whatever the file is called
        self.aside = Path(f"{self.path}.aside")  #: records that may be used again
        self.end = 0  #: where the last complete record ends, in bytes
        self._synced = time.monotonic()
        if not self.path.parent.is_dir():  # the lock would create it
            raise OutputError(f"{path}: there is no folder {self.path.parent}; create it first")
        self._lock = FileLock(f"{self.path}.lock", blocking=False)
        self._descriptor: int | None = None
        try:
            self._lock.acquire()
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
            self._open_header(json.loads(to_line({HEADER: header})))  # as in a file: tuples become lists
            self.end = sum(length for _, length in _scan(self.path))
        except Timeout as error:
            raise OutputError(
                f"{path}: another run is writing to it; wait, or give another output"
            ) from error
        except (OSError, NotImplementedError) as error:
            self.close()
            raise OutputError(f"{path}: cannot be written: {reason(error)}") from error
        except BaseException:
            self.close()
            raise

    def _open_header(self, wanted: Record) -> None:
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

    def records(self) -> Iterator[tuple[Record, int]]:
        """The records that are there, one at a time, each with its place in bytes."""
        place = 0
        for record, length in _scan(self.path):
            if HEADER not in record:
                yield record, place
            place += length

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records in one piece. Raises OutputError; then none of these records is in the file."""
        self._append(b"".join(to_line(record) for record in records))
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def set_aside(self, place: int) -> None:
        """Move the records from ``place`` on to ``aside``: the inputs are others from there."""
        try:
            with self.path.open("rb") as file, self.aside.open("ab") as aside:
                file.seek(place)
                left = self.end - place
                while left:
                    left -= aside.write(file.read(min(left, 1 << 20)))
                aside.flush()
                os.fsync(aside.fileno())
            assert self._descriptor is not None
            os.ftruncate(self._descriptor, place)
        except OSError as error:
            raise OutputError(f"{self.aside}: cannot be written: {reason(error)}") from error
        self.end = place

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
                f"{self.path}: cannot be written: {reason(error)}; "
                "what is in it is complete: make room, and run the same command again"
            ) from error
        self.end += len(data)

    def _sync(self) -> None:
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {reason(error)}") from error
        self._synced = time.monotonic()

    def close(self) -> None:
        """Write all to the disk, and let others in."""
        try:
            if self._descriptor is not None:
                try:
                    self._sync()
                finally:
                    os.close(self._descriptor)
                    self._descriptor = None
        finally:
            if self._lock.is_locked:
                with contextlib.suppress(OSError):  # Windows keeps open files
                    os.unlink(self._lock.lock_file)  # noqa: PTH108
                self._lock.release()

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Aside:
    """Records that were set aside, to be found by what they are of; a few dozen bytes of memory each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used = 0
        self._places: dict[int, int] = {}
        place = 0
        for record, length in _scan(path, header=False):
            self._places[hash(identity(record))] = place
            place += length

    def find(self, wanted: Mapping[str, Any]) -> Record | None:
        """The record of the same file, or URL."""
        place = self._places.get(hash(identity(wanted)))
        if place is None:
            return None
        with self.path.open("rb") as file:
            file.seek(place)
            record = _parse(file.readline()) or {}
        if identity(record) != identity(wanted):
            return None
        self.used += 1
        return record


def identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a record is of: name, size and time of change of a file; a URL's name alone."""
    return record.get("source"), record.get("size"), record.get("mtime_ns")


def read_records(path: str | Path) -> Iterator[Record]:
    """The records of a working file, one at a time, without the header. Raises OutputError if damaged."""
    return (record for record, _ in _scan(Path(path)) if HEADER not in record)


def read_header(path: str | Path) -> Record:
    """What the records of a working file depend on. Raises OutputError where it is none."""
    with Path(path).open("rb") as file:
        header = (_parse(file.readline(_LONGEST_HEADER)) or {}).get(HEADER)
    if not isinstance(header, dict):
        raise OutputError(f"{path}: not written by classify")
    return header


def to_line(record: Mapping[str, Any]) -> bytes:
    """One line of JSON, in UTF-8; names of files that are not text are escaped."""
    try:
        return (json.dumps(record, ensure_ascii=False) + "\n").encode()
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


def _scan(path: Path, header: bool = True) -> Iterator[tuple[Record, int]]:
    """Every complete line of a working file, and its length in bytes."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            record = _parse(line)
            if record is None or (HEADER if header and number == 1 else "source") not in record:
                if header:
                    raise OutputError(
                        f"{path}: line {number:,} is damaged; delete it and those below it, and run again"
                    )
                record = {}  # a run was killed while it set records aside
            yield record, len(line)


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
