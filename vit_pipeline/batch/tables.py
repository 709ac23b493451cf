"""A finished working file as CSV or Parquet, written at the end, complete or not at all.

Both are made record by record: memory does not grow with their number. Leaves out: how the working file comes
about (``records``).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import OutputError, check_installed
from ..files import checked_suffix, replacing
from .records import HEADER, Record, read_header, read_records

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
    suffix = checked_suffix(path, SUFFIXES)
    if suffix == ".jsonl":
        return path
    if suffix == ".parquet":
        check_installed("pyarrow", path.name)
    work = path.with_name(path.name + ".jsonl")
    if path.exists() and not work.exists():
        raise OutputError(f"{path}: exists already, without {work.name}; give another output")
    return work


def write_table(work: Path, output: str | Path) -> None:
    """Write the table that ``output`` asks for by its ending; nothing to do for ``.jsonl``.

    CSV has the columns ``COLUMNS``, ``top`` in JSON. Parquet has the records' own fields (``top`` a list,
    ``error`` a struct), and the header in its metadata. Raises OutputError.
    """
    suffix = Path(output).suffix.lower()
    if suffix == ".jsonl":
        return
    with replacing(output, f"; the results are in {work.name}") as partial:
        if suffix == ".csv":
            write_rows(partial, COLUMNS, map(_row, read_records(work)))
        else:
            _write_parquet(work, partial)


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """CSV that a spreadsheet opens safely: a BOM, so that it reads Chinese, and no cell that it would run.

    A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break gets an apostrophe before it.
    Source: OWASP, CSV injection.
    """
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([_guarded(cell) for cell in row] for row in rows)


def _guarded(cell: Any) -> Any:
    runs = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{cell}" if runs else cell


def _row(record: Record) -> list[Any]:
    error = record.get("error") or {}
    top = json.dumps(record["top"], ensure_ascii=False) if "top" in record else None
    return [*map(record.get, COLUMNS[:4]), error.get("type"), error.get("message"), top]


def _write_parquet(work: Path, partial: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    entry = {"label": pa.string(), "score": pa.float64(), "index": pa.int64()}
    error = {"type": pa.string(), "message": pa.string()}
    schema = pa.schema(
        {"source": pa.string(), **entry, "top": pa.list_(pa.struct(entry)), "error": pa.struct(error)},
        metadata={HEADER: json.dumps(read_header(work))},
    )
    records = map(_valid_text, read_records(work))
    with partial.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(records, _ROWS)):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _valid_text(value: Any) -> Any:
    """Names of files that are not text are escaped: Parquet holds UTF-8 only."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_valid_text(entry) for entry in value]
    return {key: _valid_text(entry) for key, entry in value.items()} if isinstance(value, dict) else value
