"""A finished working file as CSV or Parquet, written at the end, whole or not at all.

Both are read record by record: memory does not grow with their number. Leaves out: how the working file comes
about (``records``).
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, OutputError, check_installed
from .records import HEADER, read_header, read_records

SUFFIXES = (".jsonl", ".csv", ".parquet")
COLUMNS = ("source", "label", "score", "index", "error_type", "error_message", "top")
_ROWS = 5_000  # of one Parquet row group


def working_file(output: str | Path) -> Path:
    """Where the records of a run go: the output itself for ``.jsonl``, a ``.jsonl`` beside it otherwise.

    Raises:
        ArgumentError: another ending, or Parquet without pyarrow.
        OutputError: a table is there whose working file is gone; it is not overwritten.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"{path}: the name must end in {', '.join(SUFFIXES)}")
    if suffix == ".jsonl":
        return path
    if suffix == ".parquet":
        check_installed("pyarrow", path.name)
    work = path.with_name(path.name + ".jsonl")
    if path.exists() and not work.exists():
        raise OutputError(f"{path}: is there already, without {work.name}; give another output")
    return work


def write_table(work: Path, output: str | Path) -> None:
    """Write the table that ``output`` asks for by its ending; nothing to do for ``.jsonl``.

    CSV has the columns ``COLUMNS``, ``top`` in JSON. Parquet has the records' own fields (``top`` a list,
    ``error`` a struct), and the header in its metadata. Raises OutputError.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return
    write = _write_csv if suffix == ".csv" else _write_parquet
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        try:
            write(work, Path(partial))
            # mkstemp made it private: the table gets what the working file has
            os.chmod(partial, work.stat().st_mode & 0o777)  # noqa: PTH101
            os.replace(partial, path)  # noqa: PTH105
        except BaseException:
            os.unlink(partial)  # noqa: PTH108
            raise
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path}: cannot be written: {reason}; the results are in {work.name}") from error


def _write_csv(work: Path, partial: Path) -> None:
    with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for record in read_records(work):
            error = record.get("error") or {}
            top = json.dumps(record["top"], ensure_ascii=False) if "top" in record else None
            values = [record.get(name) for name in ("source", "label", "score", "index")]
            writer.writerow([*values, error.get("type"), error.get("message"), top])
        file.flush()
        os.fsync(file.fileno())


def _write_parquet(work: Path, partial: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    entry = {"label": pa.string(), "score": pa.float64(), "index": pa.int64()}
    schema = pa.schema(
        {
            "source": pa.string(),
            **entry,
            "top": pa.list_(pa.struct(entry)),
            "error": pa.struct({"type": pa.string(), "message": pa.string()}),
        },
        metadata={HEADER: json.dumps(read_header(work))},
    )
    records = map(_valid_text, read_records(work))
    with partial.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
        for rows in _pieces(records, _ROWS):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _valid_text(value: Any) -> Any:
    """Names of files that are not text are escaped: Parquet holds UTF-8 only."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_valid_text(entry) for entry in value]
    return {key: _valid_text(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def _pieces(records: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while rows := list(islice(records, size)):
        yield rows
