"""The working file of a long run: a header line, then one JSON record a line, in the order of the inputs.

It survives being killed, a full disk and a power cut: a batch is appended in one piece, a half-written last
line is cut off by the next append, and what cannot be written is taken back. One run at a time holds it.
Leaves out: what is in the records (the package itself), the tables made of them (``tables``).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import OutputError, reason

Record = dict[str, Any]
HEADER = "vit_pipeline"
#: in the header, but free to differ when a run resumes: the results stay the same
FREE = frozenset(("model", "from", "revision", "batch_size", "agreement"))
SYNC_SECONDS = 5.0  #: what a power cut may cost
_LONGEST_HEADER = 1_000_000


@contextmanager
def open_records(path: str | Path, header: Mapping[str, Any]) -> Iterator[RecordFile]:
    """A working file, created if it does not exist; meanwhile no other run can open it.

    Raises OutputError: another run holds the file, its header is another (``FREE`` entries apart), it is
    damaged, or the system does not allow it.
    """
    target = Path(os.path.realpath(path))  # one lock, whatever the file is called
    if not target.parent.is_dir():  # the lock would create it
        raise OutputError(f"{path}: there is no folder {target.parent}; create it first")
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(FileLock(f"{target}.lock", blocking=False))
            stack.callback(_remove, lock.lock_file)
            file = stack.enter_context(target.open("a+b", buffering=0))
            records = RecordFile(target, file, to_line({HEADER: header}))
        except Timeout as error:
            raise OutputError(
                f"{path}: another run is writing to it; wait, or give another output"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise OutputError(f"{path}: cannot be written: {reason(error)}") from error
        stack.callback(records.sync)
        yield records


class RecordFile:
    """An open working file.

    A run asks for the record of each input (``find``), writes one for each, in the same order (``write``),
    and says when it is through (``finish``). Records of an earlier run stay where they are as long as they
    are in step with the inputs. Where the two part, the rest of the file moves to ``aside``, and records are
    looked up there.
    """

    def __init__(self, path: Path, file: FileIO, header: bytes) -> None:
        self.path, self._file = path, file
        self.aside = Path(f"{path}.aside")
        self._end = self._step = 0  # in bytes: of the complete records; of those in step with the inputs
        self._standing = 0  # records in step whose turn to be written has not come
        self._in_step, self._found = True, False
        self._places: dict[int, int] = {}  # in ``aside``, by a hash of what the record is of
        self._check_header(header)
        for number, (record, _, end) in enumerate(_scan(path), start=1):
            if number > 1 and "source" not in record:
                raise OutputError(
                    f"{path}: line {number:,} is damaged; delete it and those below it, and run again"
                )
            self._end = end
        self._before = _scan(path)
        _, _, self._step = next(self._before)  # the header
        self._synced = time.monotonic()

    def _check_header(self, wanted: bytes) -> None:
        with self.path.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
        if not line.endswith(b"\n") and wanted.startswith(line):  # new, or killed at its first line
            if self.aside.exists():
                raise OutputError(f"{self.aside}: has records of an earlier run; move it away, or delete it")
            self._append(wanted)
            self.sync()
        elif different := differences(read_header(self.path), json.loads(wanted)[HEADER]):
            raise OutputError(
                f"{self.path}: its results are of other settings ({'; '.join(different)}); "
                "use those again, or give another output"
            )

    def find(self, wanted: Mapping[str, Any], retry_errors: bool = False) -> Record | None:
        """The record of the same file or URL from an earlier run, if there is one to keep."""
        if self._in_step:
            record, _, end = next(self._before, ({}, 0, 0))
            if identity(record) == identity(wanted) and not (retry_errors and "error" in record):
                self._step, self._standing, self._found = end, self._standing + 1, True
                return record
            self._part()
        if (place := self._places.get(hash(identity(wanted)))) is None:
            return None
        with self.aside.open("rb") as file:
            file.seek(place)
            record = _parse(file.readline())
        if identity(record) != identity(wanted):
            return None
        self._found = True
        return None if retry_errors and "error" in record else record

    def _part(self) -> None:
        """Move the records that are not in step to ``aside``; from now on they are looked up there."""
        self._in_step = False
        if self._step < self._end:
            with writing(self.path), self.path.open("rb") as file, self.aside.open("ab") as aside:
                aside.truncate(max((end for _, _, end in _scan(self.aside)), default=0))  # killed in here
                self._file.truncate(self._end)
                file.seek(self._step)
                shutil.copyfileobj(file, aside)
                aside.flush()
                os.fsync(aside.fileno())
                self._file.truncate(self._step)
            self._end = self._step
        if self.aside.exists():
            self._places = {hash(identity(record)): start for record, start, _ in _scan(self.aside)}

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records in one piece. Raises OutputError; then none of these records is in the file."""
        new = records[self._standing :]  # the first ones are in the file already
        self._standing -= len(records) - len(new)
        self._append(b"".join(map(to_line, new)))
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def finish(self) -> None:
        """Records without an input are dropped; but if none has one, all of them are kept in ``aside``."""
        if self._in_step:
            self._part()
        if self._found:
            self.aside.unlink(missing_ok=True)

    def _append(self, data: bytes) -> None:
        with writing(self.path):
            try:
                self._file.truncate(self._end)  # a half-written line goes
                left = memoryview(data)
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                with suppress(OSError):  # what cannot be taken back now, the next run cuts off
                    self._file.truncate(self._end)
                raise
        self._end += len(data)

    def sync(self) -> None:
        """Write all to the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a record is of: name, size and time of change of a file; a URL's name alone."""
    return record.get("source"), record.get("size"), record.get("mtime_ns")


def read_records(path: Path) -> Iterator[Record]:
    """The records of a working file, one at a time, without the header."""
    return (record for record, _, _ in _scan(path) if "source" in record)


def read_header(path: Path) -> Record:
    """What the records of a working file depend on. Raises OutputError where it is none."""
    with path.open("rb") as file:
        header = _parse(file.readline(_LONGEST_HEADER)).get(HEADER)
    if not isinstance(header, dict):
        raise OutputError(f"{path}: exists already, and was not written by classify; give another output")
    return header


def computed_before(path: Path) -> str:
    """How the records of an earlier run were computed, such as ``OpenVINO int8``; "" where there are none."""
    with suppress(OSError, OutputError):
        return str(read_header(path).get("dtype", ""))
    return ""


def to_line(record: Mapping[str, Any]) -> bytes:
    """One line of JSON, in UTF-8; what is not text in names of files is escaped, as JSON does it."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two headers, in words: ``dtype was float32, is bfloat16``."""
    said = []
    for key in sorted((found.keys() | wanted.keys()) - FREE):
        before, now = found.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            said += [f"{key} {text}" for text in differences(before, now)]
        elif before != now:
            said.append(f"{key} was {_short(before)}, is {_short(now)}")
    return said


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _scan(path: Path) -> Iterator[tuple[Record, int, int]]:
    """The record of every complete line, and where the line starts and ends, in bytes."""
    start = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _parse(line), start, start + len(line)
                start += len(line)


def _parse(line: bytes) -> Record:
    """The JSON object in a line; an empty one if the line is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError in here becomes an OutputError that says how to resume."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {reason(error)}; "
            "what is in it is complete: make room, and run the same command again"
        ) from error


def _remove(path: str) -> None:
    with suppress(OSError):  # Windows keeps open files
        Path(path).unlink()
