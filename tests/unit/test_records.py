from __future__ import annotations

import csv
import errno
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from vit_pipeline.batch.records import differences, open_records, read_header, read_records, to_line
from vit_pipeline.batch.tables import COLUMNS, working_file, write_table
from vit_pipeline.errors import ArgumentError, OutputError

HEADER = {"model": "demo", "dtype": "float32", "sizes": (4, 4), "versions": {"torch": "2.13"}}


def record(name: str) -> dict[str, Any]:
    return {"source": name, "label": "cat", "score": 0.1 + 0.2, "index": 3, "top": []}


def fill(path: Path, *names: str) -> bytes:
    with open_records(path, HEADER) as file:
        file.write([record(name) for name in names])
    return path.read_bytes()


def test_a_header_then_records_in_order(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a", "b").decode()
    lines = [json.loads(line) for line in content.splitlines()]
    assert lines[0] == {"vit_pipeline": {**HEADER, "sizes": [4, 4]}}
    assert lines[1:] == [record("a"), record("b")]
    with open_records(path, HEADER) as file:
        assert [file.find(record(name)) for name in "abc"] == [record("a"), record("b"), None]
        file.write([record("a")])
        file.write([record("b"), record("ü\u2028\n")])
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
        with open_records(path, HEADER) as file:
            assert len(list(read_records(path))) == whole
            found = [file.find(record(name)) for name in ("a", "ü", "c")]
            assert [r is not None for r in found] == [number < whole for number in range(3)]
            file.write([record("a")])
            file.write([record(name) for name in ("ü", "c")])
            file.finish()
        assert path.read_bytes() == content


def test_records_of_a_run_that_stops_early_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a", "b")
    with open_records(path, HEADER) as file:
        assert file.find(record("a")) == record("a")
        file.write([record("a")])
    assert path.read_bytes() == content


def test_a_tail_of_zeros_is_cut_off_and_a_damaged_middle_is_not(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a", "b")
    path.write_bytes(content + b"\0" * 100)  # what a pulled plug can leave
    assert fill(path, "c") == content + to_line(record("c"))
    for lines, number in (([content, b"\0\n"], 4), ([content.splitlines(True)[0], b'{"score": 1}\n'], 2)):
        path.write_bytes(b"".join([*lines, to_line(record("c"))]))
        with pytest.raises(OutputError, match=f"line {number} is damaged"), open_records(path, HEADER):
            pass
    assert path.read_bytes().endswith(to_line(record("c")))


@pytest.mark.parametrize("content", [b"{}\n", b"[1]\n", b"notes", b"\n", b'{"source": "a"}\n', b"\xff\n"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="not written by classify"), open_records(path, HEADER):
        pass
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
        with pytest.raises(OutputError, match=said), open_records(path, HEADER | changes):
            pass
    with open_records(path, HEADER | {"model": "the same by another name", "batch_size": 3}):
        pass
    assert path.read_bytes() == content
    assert differences({"a": "x" * 64}, {"a": "y" * 64}) == ["a was xxxxxxxxxxxx…, is yyyyyyyyyyyy…"]


@pytest.mark.slow
def test_a_second_run_is_refused_by_any_name_of_the_file(tmp_path: Path) -> None:
    path, link = tmp_path / "r.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    script = (
        "import sys; from vit_pipeline.batch.records import open_records\n"
        "from vit_pipeline.errors import OutputError\n"
        "try: open_records(sys.argv[1], {}).__enter__()\n"
        "except OutputError as error: print(error)"
    )
    with open_records(path, HEADER):
        with pytest.raises(OutputError, match="another run is writing"), open_records(link, HEADER):
            pass
        answer = subprocess.run(
            [sys.executable, "-c", script, link], capture_output=True, text=True, check=True
        )
        assert "another run is writing to it" in answer.stdout
    with open_records(link, HEADER):
        pass


@contextmanager
def room(path: Path, size: int) -> Iterator[None]:
    """The kernel writes files up to this many bytes, then refuses; Python ignores SIGXFSZ."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_a_full_disk_takes_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = fill(path, "a")
    with open_records(path, HEADER) as file:
        file.find(record("a"))
        with room(path, 20), pytest.raises(OutputError, match=r"r\.jsonl: cannot be written.*same command"):
            file.write([record("a"), record("b")])
        assert path.read_bytes() == content
    with open_records(path, HEADER) as file:
        assert [file.find(record(name)) for name in "ab"] == [record("a"), None]
        file.write([record("a"), record("b")])
    assert [r["source"] for r in read_records(path)] == ["a", "b"]


def test_a_full_disk_takes_nothing_that_is_set_aside(tmp_path: Path) -> None:
    path, aside = tmp_path / "r.jsonl", tmp_path / "r.jsonl.aside"
    fill(path, "a", *"b" * 200)
    content = path.read_bytes()
    aside.write_bytes(to_line(record("z")) * 100)
    with open_records(path, HEADER) as file:
        with room(aside, 3000), pytest.raises(OutputError, match="same command again"):
            file.find(record("x"))
        assert path.read_bytes() == content
    with open_records(path, HEADER) as file:
        assert [file.find(record(name)) for name in "xbaz"] == [None, *map(record, "baz")]


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "made.jsonl").mkdir()
    for name, said in ((Path("none", "r.jsonl"), "there is no folder"), ("made.jsonl", "Is a directory")):
        with pytest.raises(OutputError, match=said), open_records(tmp_path / name, HEADER):
            pass
    with open_records(tmp_path / "r.jsonl", HEADER):
        pass


def test_records_are_set_aside_and_found_again(tmp_path: Path) -> None:
    path, aside = tmp_path / "r.jsonl", tmp_path / "r.jsonl.aside"
    path.write_bytes(fill(path, "a", "b", "c", "d") + b'{"source": "half')
    aside.write_bytes(to_line(record("z")) + b'{"source": "half')  # killed while it set records aside
    with open_records(path, HEADER) as file:
        assert [file.find(record(name)) for name in "axczdbn"] == [
            *(record("a"), None, record("c"), record("z"), record("d"), record("b"), None)
        ]
        assert file.find({"source": "c", "size": 3}) is None
        file.write([record("a"), record("x")])
    assert [r["source"] for r in read_records(path)] == ["a", "x"]
    assert [json.loads(line)["source"] for line in aside.read_text().splitlines()] == [*"zbcd"]


def test_only_what_a_later_run_can_use_is_kept_aside(tmp_path: Path) -> None:
    path, aside = tmp_path / "r.jsonl", tmp_path / "r.jsonl.aside"
    for inputs, written, kept in (("ab", "ab", None), ("a", "a", None), ("x", "x", "a"), ("xy", "xy", None)):
        with open_records(path, HEADER) as file:
            assert len(list(map(file.find, map(record, inputs)))) == len(inputs)
            file.write([record(name) for name in inputs])
            file.finish()
        assert [r["source"] for r in read_records(path)] == [*written]
        assert aside.exists() == (kept is not None)
        assert not kept or aside.read_bytes() == to_line(record(kept))


def test_errors_are_looked_up_only_where_they_are_not_retried(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    bad = {"source": "bad", "error": {"type": "ImageError", "message": "bad"}}
    with open_records(path, HEADER) as file:
        file.write([bad, record("a"), bad])
    with open_records(path, HEADER) as file:
        assert [file.find({"source": name}) for name in ("bad", "a", "bad")] == [bad, record("a"), bad]
    with open_records(path, HEADER) as file:
        names = ("bad", "bad", "a", "x")
        assert [file.find({"source": name}, retry_errors=True) for name in names] == [
            None,
            None,
            record("a"),
            None,
        ]
        file.finish()
    assert not Path(f"{path}.aside").exists()


def test_records_of_settings_that_are_gone_are_not_used(tmp_path: Path) -> None:
    path, aside = tmp_path / "r.jsonl", tmp_path / "r.jsonl.aside"
    aside.write_bytes(to_line(record("a")))
    with pytest.raises(OutputError, match="records of an earlier run"), open_records(path, HEADER):
        pass
    assert path.read_bytes() == b""


ROWS = [
    {"source": 'a,"b".jpg', "label": "cat", "score": 0.1 + 0.2, "index": 3,
     "top": [{"label": "cat", "score": 0.1 + 0.2, "index": 3}]},
    {"source": "b\udce9.jpg", "error": {"type": "ImageError", "message": "bad"}},
]  # fmt: skip


def test_csv(tmp_path: Path) -> None:
    output = tmp_path / "r.csv"
    work = working_file(output)
    with open_records(work, HEADER) as file:
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
    with open_records(work, HEADER) as file:
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
    with open_records(work, HEADER) as file:
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
    with open_records(work, HEADER) as file:
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
    with pytest.raises(OutputError, match="exists already"):
        working_file(tmp_path / "mine.csv")
