from __future__ import annotations

import csv
import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from vit_pipeline.batch import records as module
from vit_pipeline.batch.records import Aside, RecordFile, differences, read_header, read_records, to_line
from vit_pipeline.batch.tables import COLUMNS, working_file, write_table
from vit_pipeline.errors import ArgumentError, OutputError

HEADER = {"model": "demo", "dtype": "float32", "sizes": (4, 4), "versions": {"torch": "2.13"}}


def record(name: str) -> dict[str, Any]:
    return {"source": name, "label": "cat", "score": 0.1 + 0.2, "index": 3, "top": []}


def fill(path: Path, *names: str) -> bytes:
    with RecordFile(path, HEADER) as file:
        file.write([record(name) for name in names])
    return path.read_bytes()


def test_a_header_then_records_in_order(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a", "b").decode()
    lines = [json.loads(line) for line in content.splitlines()]
    assert lines[0] == {"vit_pipeline": {**HEADER, "sizes": [4, 4]}}
    assert lines[1:] == [record("a"), record("b")]
    with RecordFile(path, HEADER) as file:
        assert [r["source"] for r, _ in file.records()] == ["a", "b"]
        file.write([record("ü\u2028\n")])
        file.write([])
    assert [r["source"] for r in read_records(path)] == ["a", "b", "ü\u2028\n"]
    assert read_header(path)["dtype"] == "float32"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.jsonl"]  # no lock is left behind


@pytest.mark.slow
def test_wherever_it_is_cut_the_whole_records_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a", "ü", "c")
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends[1:])
        with RecordFile(path, HEADER) as file:
            assert len(list(file.records())) == whole
            file.write([record(name) for name in ["a", "ü", "c"][whole:]])
        assert path.read_bytes() == content


def test_records_behind_an_unread_end_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    fill(path, "a", "b")
    with RecordFile(path, HEADER) as file:
        next(file.records())
        file.write([record("c")])
    assert [r["source"] for r in read_records(path)] == ["a", "b", "c"]


def test_a_tail_of_zeros_is_cut_off_and_a_damaged_middle_is_not(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a", "b")
    path.write_bytes(content + b"\0" * 100)  # what a pulled plug can leave
    assert fill(path, "c") == content + to_line(record("c"))
    path.write_bytes(content + b"\0\n" + to_line(record("c")))
    with pytest.raises(OutputError, match="line 4 is damaged"):
        RecordFile(path, HEADER)
    assert path.read_bytes().endswith(to_line(record("c")))


@pytest.mark.parametrize("content", [b"{}\n", b"[1]\n", b"notes", b"\n", b'{"source": "a"}\n', b"\xff\n"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="not written by classify"):
        RecordFile(path, HEADER)
    assert path.read_bytes() == content
    with pytest.raises(OutputError):
        read_header(path)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a")
    for changes, said in (
        ({"dtype": "bfloat16"}, "dtype was float32, is bfloat16"),
        ({"versions": {"torch": "2.14"}}, "versions torch was 2.13, is 2.14"),
        ({"sizes": (8, 8)}, r"sizes was \[4, 4\], is \[8, 8\]"),
        ({"draft": True}, "draft was null, is true"),
    ):
        with pytest.raises(OutputError, match=said):
            RecordFile(path, HEADER | changes)
    RecordFile(path, HEADER | {"model": "the same by another name", "batch_size": 3}).close()
    assert path.read_bytes() == content
    assert differences({"a": "x" * 64}, {"a": "y" * 64}) == ["a was xxxxxxxxxxxx…, is yyyyyyyyyyyy…"]


def test_a_second_run_is_refused_by_any_name_of_the_file(tmp_path: Path) -> None:
    path, link = tmp_path / "r.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    script = (
        "import sys; from vit_pipeline.batch.records import RecordFile\n"
        "from vit_pipeline.errors import OutputError\n"
        "try: RecordFile(sys.argv[1], {})\n"
        "except OutputError as error: print(error)"
    )
    with RecordFile(path, HEADER):
        with pytest.raises(OutputError, match="another run is writing"):
            RecordFile(link, HEADER)
        answer = subprocess.run(
            [sys.executable, "-c", script, link], capture_output=True, text=True, check=True
        )
        assert "another run is writing to it" in answer.stdout
    RecordFile(link, HEADER).close()


def test_a_full_disk_takes_nothing_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a")
    real, room = os.write, 30

    def write(descriptor: int, data: Any) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[: min(room, 7)])
        room -= written
        return written

    with RecordFile(path, HEADER) as file:
        monkeypatch.setattr(module.os, "write", write)
        with pytest.raises(OutputError, match=r"r\.jsonl: cannot be written: No space left.*same command"):
            file.write([record("b")])
        assert path.read_bytes() == content
        monkeypatch.setattr(module.os, "write", real)
        file.write([record("b")])
    assert [r["source"] for r in read_records(path)] == ["a", "b"]


def test_a_limit_of_the_system_is_one_line(tmp_path: Path) -> None:
    """The real thing: the kernel writes a part of a record, then refuses."""
    path = tmp_path / "r.jsonl"
    fill(path, "a")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordFile(path, HEADER) as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limit[1]))
        try:  # Python ignores SIGXFSZ: the write fails instead
            with pytest.raises(OutputError, match="File too large"):
                file.write([record("b")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [r["source"] for r in read_records(path)] == ["a"]


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        RecordFile(tmp_path / "none" / "r.jsonl", HEADER)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OutputError, match="folder"):
        RecordFile(tmp_path / "folder.jsonl", HEADER)
    RecordFile(tmp_path / "r.jsonl", HEADER).close()


def test_records_are_set_aside_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    fill(path, "a", "b", "c", "b")
    with RecordFile(path, HEADER) as file:
        place = next(place for r, place in file.records() if r["source"] == "b")
        file.aside.write_bytes(b'{"source": "half')  # a run was killed while it set records aside
        file.set_aside(place)
        file.write([record("x")])
        aside = Aside(file.aside)
    assert [r["source"] for r in read_records(path)] == ["a", "x"]
    assert aside.find({"source": "c"}) == record("c")
    assert aside.find({"source": "b"}) == record("b")
    assert aside.find({"source": "c", "size": 3}) is None
    assert aside.find({"source": "a"}) is None


ROWS = [
    {"source": 'a,"b".jpg', "label": "cat", "score": 0.1 + 0.2, "index": 3,
     "top": [{"label": "cat", "score": 0.1 + 0.2, "index": 3}]},
    {"source": "b\udce9.jpg", "error": {"type": "ImageError", "message": "bad"}},
]  # fmt: skip


def test_csv(tmp_path: Path) -> None:
    output = tmp_path / "r.csv"
    work = working_file(output)
    with RecordFile(work, HEADER) as file:
        file.write(ROWS)
    write_table(work, output)
    with output.open(newline="", encoding="utf-8-sig") as table:
        rows = list(csv.DictReader(table))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["source"], float(rows[0]["score"])) == ('a,"b".jpg', 0.1 + 0.2)
    assert json.loads(rows[0]["top"]) == ROWS[0]["top"]
    assert (rows[1]["source"], rows[1]["label"]) == ("b\\udce9.jpg", "")
    assert (rows[1]["error_type"], rows[1]["error_message"]) == ("ImageError", "bad")


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit_pipeline.batch.tables._ROWS", 1)
    output = tmp_path / "r.parquet"
    work = working_file(output)
    with RecordFile(work, HEADER) as file:
        file.write(ROWS)
    write_table(work, output)
    table = parquet.read_table(output)
    assert table.column_names == ["source", "label", "score", "index", "top", "error"]
    assert table.to_pylist()[0] == {**ROWS[0], "error": None}
    assert table.to_pylist()[1]["error"] == {"type": "ImageError", "message": "bad"}
    assert json.loads(table.schema.metadata[b"vit_pipeline"])["dtype"] == "float32"


def test_csv_is_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    output = tmp_path / "r.csv"
    work = working_file(output)
    names = ["=1+1.png", "+a", "-2.jpg", "@x", "\tx", "猫.png", "a=b"]
    with RecordFile(work, HEADER) as file:
        file.write([record(name) | {"label": "=cmd()"} for name in names])
    write_table(work, output)
    assert output.read_bytes().startswith(b"\xef\xbb\xbf")
    with output.open(newline="", encoding="utf-8-sig") as table:
        rows = list(csv.DictReader(table))
    assert [row["source"] for row in rows] == [*("'" + name for name in names[:5]), *names[5:]]
    assert {row["label"] for row in rows} == {"'=cmd()"}
    assert {float(row["score"]) for row in rows} == {0.1 + 0.2}


@pytest.mark.parametrize("name", ["r.csv", "r.parquet"])
def test_a_table_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    output = tmp_path / name
    work = working_file(output)
    with RecordFile(work, HEADER) as file:
        file.write(ROWS)
    output.write_text("the table before")

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target: Callable[..., Any] = refuse
    monkeypatch.setattr("os.fsync" if name == "r.csv" else "pyarrow.parquet.ParquetWriter.write_table",
                        target if name == "r.csv" else lambda *_: refuse(0))  # fmt: skip
    with pytest.raises(OutputError, match=r"No space left on device; the results are in r\..*jsonl"):
        write_table(work, output)
    monkeypatch.undo()
    assert output.read_text() == "the table before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, f"{name}.jsonl"])


def test_names_of_outputs(tmp_path: Path) -> None:
    assert working_file(tmp_path / "r.jsonl") == tmp_path / "r.jsonl"
    assert working_file(tmp_path / "R.CSV") == tmp_path / "R.CSV.jsonl"
    for name in ("r.txt", "r", "photo.jpg"):
        with pytest.raises(ArgumentError, match=r"must end in \.jsonl, \.csv, \.parquet"):
            working_file(tmp_path / name)
    (tmp_path / "mine.csv").write_text("somebody's table")
    with pytest.raises(OutputError, match="is there already"):
        working_file(tmp_path / "mine.csv")
