"""Whatever befalls a working file: its whole records, or an OutputError that leaves it as it is."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vit_pipeline.batch.records import open_records, read_records
from vit_pipeline.batch.tables import working_file, write_table
from vit_pipeline.errors import OutputError

EXAMPLES = int(os.environ.get("VIT_PIPELINE_FUZZ_EXAMPLES", "60"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 1000)
HEADER = {"model": "demo", "mean": (0.5, 0.25)}

names = st.text(st.characters(exclude_categories=[]), max_size=20)  # lone surrogates among them
scores = st.floats(0, 1)
entries = st.fixed_dictionaries({"label": names, "score": scores, "index": st.integers(0, 999)})
good = st.builds(
    lambda name, best, top: {"source": name, **best, "top": top}, names, entries, st.lists(entries)
)
bad = st.builds(
    lambda name, text: {"source": name, "error": {"type": "ImageError", "message": text}},
    names,
    st.text(max_size=30),
)
records = st.lists(good | bad, max_size=6)


@fuzz
@given(records, st.data())
def test_cut_anywhere(written: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.jsonl"
        with open_records(path, HEADER) as file:
            file.write(written)
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut] + b"\0" * data.draw(st.integers(0, 9) if cut else st.just(0)))
        whole = max(content[:cut].count(b"\n") - 1, 0)
        try:
            with open_records(path, HEADER) as file:
                found = [file.find(record) for record in written]
                assert found == written[:whole] + [None] * (len(written) - whole)
                file.write(written)
                file.finish()
        except OutputError as error:
            assert "not written by classify" in str(error)  # zeros in the header's place
            assert b"\n" not in content[:cut]
            return
        assert path.read_bytes() == content
        assert os.listdir(folder) == ["r.jsonl"]


@fuzz
@given(records, st.binary(max_size=60), st.data())
def test_overwritten_anywhere(written: list[dict[str, Any]], junk: bytes, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.jsonl"
        with open_records(path, HEADER) as file:
            file.write(written)
        content = path.read_bytes()
        start = data.draw(st.integers(0, len(content)))
        damaged = content[:start] + junk + content[start + len(junk) :]
        path.write_bytes(damaged)
        with contextlib.suppress(OutputError), open_records(path, HEADER):
            assert len(list(read_records(path))) == damaged.count(b"\n") - 1
        assert path.read_bytes() == damaged or not damaged.count(b"\n")


@fuzz
@given(records, st.sampled_from(["r.csv", "r.parquet"]))
def test_every_record_gets_into_a_table(written: list[dict[str, Any]], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / name
        work = working_file(output)
        with open_records(work, HEADER) as file:
            file.write(written)
        assert list(read_records(work)) == written
        write_table(work, output)
        assert output.stat().st_size > 0
