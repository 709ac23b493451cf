from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run
from PIL import Image, TiffImagePlugin

from vit_pipeline import Prediction, ViTPipeline, pipeline
from vit_pipeline.batch import Summary, classify
from vit_pipeline.engine import Clock
from vit_pipeline.errors import (
    ArgumentError,
    CheckpointError,
    ImageError,
    OutputError,
    VitPipelineError,
)
from vit_pipeline.sources import find_images

PHOTOS = Path(__file__).parents[2] / "examples"
NAMES = ["cat.png", "coffee.png", "rocket.jpg", "astronaut.png"]


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 different images, some in a subfolder, and 5 bad files, in one order only."""
    top = tmp_path_factory.mktemp("images")
    (top / "more").mkdir()
    photos = [Image.open(PHOTOS / name).convert("RGB") for name in NAMES]
    for number in range(40):
        photo = photos[number % 4]
        left, upper = 5 * number % 97, 3 * number % 61
        piece = photo.crop((left, upper, left + 150 + number, upper + 120))
        piece.save(top / ("more" if number % 5 == 2 else "") / f"{number:02}.{('png', 'jpg')[number % 2]}")
    (top / "03.empty.jpg").write_bytes(b"")
    (top / "04.text.png").write_bytes(b"not an image")
    (top / "05.cut.jpg").write_bytes((top / "01.jpg").read_bytes()[:900])
    (top / "06.page.gif").write_bytes(b"<!doctype html><html></html>")
    (top / "07.link.jpg").symlink_to(top / "nowhere.jpg")
    (top / ".hidden.jpg").write_bytes(b"")
    (top / "notes.md").write_text("no image")
    return top


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()][1:]


def without_files(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in ("size", "mtime_ns")} for record in found]


def assert_close(path: Path, other: Path, atol: float = 2e-6) -> None:
    """The same header, records and order; scores may round elsewhere, as batches have other sizes."""
    assert path.read_text().splitlines()[0] == other.read_text().splitlines()[0]
    ours, theirs = records(path), records(other)
    assert [{**r, "score": 0, "top": 0} for r in ours] == [{**r, "score": 0, "top": 0} for r in theirs]
    for one, two in zip(ours, theirs, strict=True):
        scores = [[entry["score"] for entry in record.get("top", [])] for record in (one, two)]
        assert scores[0] == pytest.approx(scores[1], abs=atol)


def assert_same(results: list[Any], alone: list[Any], atol: float = 1e-6) -> None:
    assert len(results) == len(alone)
    for one, other in zip(results, alone, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Prediction):
            assert (one.source, one.label, one.index) == (other.source, other.label, other.index)
            scores = [[entry.score for entry in p.top] for p in (one, other)]
            assert scores[0] == pytest.approx(scores[1], abs=atol)
        else:
            assert str(one) == str(other)


# Streams


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_a_stream_says_what_one_by_one_says(demo: ViTPipeline, folder: Path, batch_size: int) -> None:
    paths = [path for _, path in find_images([folder])]
    alone = [demo([path], on_error="return")[0] for path in paths]
    assert sum(isinstance(result, ImageError) for result in alone) == 5
    assert_same(list(demo.stream(paths, batch_size)), alone)


def test_a_stream_takes_every_kind_of_image(demo: ViTPipeline) -> None:
    path = PHOTOS / "cat.png"
    image = Image.open(path).convert("RGB")
    kinds = [str(path), path, path.read_bytes(), image, 17, path]
    results = list(demo.stream(iter(kinds), 4, top_k=2))
    assert [type(result) for result in results] == [Prediction] * 4 + [ImageError, Prediction]
    assert [r.label for r in results if isinstance(r, Prediction)] == ["cat"] * 5
    assert len(results[0].top) == 2  # type: ignore[union-attr]
    assert list(demo.stream([])) == []


@pytest.mark.slow
def test_a_stream_reads_a_little_ahead_and_no_further(demo: ViTPipeline) -> None:
    read = 0

    def endless() -> Iterator[Path]:
        nonlocal read
        while True:
            read += 1
            yield PHOTOS / NAMES[read % 4]

    stream = demo.stream(endless(), 4, threads=1)
    for number in range(1, 30):
        assert isinstance(next(stream), Prediction)
        assert read <= number + 4 * 4
    stream.close()  # type: ignore[attr-defined]


def test_arguments_are_checked_at_once(demo: ViTPipeline, tmp_path: Path) -> None:
    for wrong in ({"batch_size": 0}, {"top_k": 0}, {"threads": 1.5}, {"batch_size": True}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            demo.stream([], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="must end in"):
        classify(PHOTOS, tmp_path / "r.txt", demo)
    with pytest.raises(ArgumentError, match="batch_size"):
        classify(PHOTOS, tmp_path / "r.jsonl", demo, batch_size=-1)
    with pytest.raises(ArgumentError, match="threads"):
        classify(PHOTOS, tmp_path / "r.jsonl", demo, threads=0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_the_inputs_comes_after_the_results_before_it(demo: ViTPipeline) -> None:
    def broken() -> Iterator[Path]:
        yield from [PHOTOS / "cat.png"] * 3
        raise ZeroDivisionError

    stream = demo.stream(broken(), 2)
    assert [next(stream).label for _ in range(3)] == ["cat"] * 3  # type: ignore[union-attr]
    with pytest.raises(ZeroDivisionError):
        next(stream)


@pytest.fixture(scope="module")
def half() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu", dtype="bfloat16")


def test_a_model_that_breaks_down_ends_the_run(
    demo: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = torch.full((4, 10), float("nan"))
    monkeypatch.setattr(ViTPipeline, "forward", lambda *_: nan)
    with pytest.raises(CheckpointError, match="not finite"):
        classify(PHOTOS, tmp_path / "r.jsonl", demo)


# Folders to files


def test_a_summary_in_words() -> None:
    said = str(Summary(Path("r.jsonl"), 3, 1, 2, 4.0, Clock(0.01, 0.02, 0.5)))
    spent = "0.5 images/s (decode 5.0 ms, model 10.0 ms, wait 250.0 ms each)"
    assert said == f"3 images, 1 error, 1 of them from before, {spent}"
    assert str(Summary(Path("r.jsonl"), 1)) == "1 image, 0 errors, 1 of them from before"


@pytest.mark.slow
def test_every_file_has_a_record_in_order(demo: ViTPipeline, folder: Path, tmp_path: Path) -> None:
    seen: list[Summary] = []
    summary = classify(folder, tmp_path / "r.jsonl", demo, progress=seen.append, top_k=3)
    assert (summary.images, summary.errors, summary.classified) == (45, 5, 45)
    assert [s.images for s in seen] == [8, 16, 24, 32, 40, 45]
    assert str(summary).startswith("45 images, 5 errors, ")
    assert "ms each)" in str(summary)
    found = records(tmp_path / "r.jsonl")
    expected = sorted(
        p for p in folder.iterdir() if p.suffix in (".jpg", ".png", ".gif") and p.name[0] != "."
    )
    expected += sorted((folder / "more").iterdir())
    assert [record["source"] for record in found] == [str(path) for path in expected]
    for record, path in zip(found, expected, strict=True):
        if "error" in record:
            assert len(path.suffixes) == 2
            assert set(record) >= {"source", "error"}
            assert "label" not in record
            assert record["error"]["type"] == "ImageError"
            assert path.name in record["error"]["message"]
        else:
            alone = demo(path, top_k=3).to_dict()
            assert (record["label"], record["index"]) == (alone["label"], alone["index"])
            assert (record["size"], record["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
            assert record["score"] == round(record["score"], 6)
            assert record["score"] == pytest.approx(alone["score"], abs=1e-6)
            assert len(record["top"]) == 3
    header = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])["vit_pipeline"]
    assert header["sha256"] == demo.provenance.sha256
    assert (header["model"], header["from"], header["revision"]) == ("demo", "embedded", None)
    assert (header["dtype"], header["top_k"]) == ("float32", 3)
    assert header["preprocessing"]["image_mean"] == [0.5, 0.5, 0.5]
    assert header["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def test_lists_patterns_and_stdin(demo: ViTPipeline, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    cat, rocket = str(PHOTOS / "cat.png"), str(PHOTOS / "rocket.jpg")
    listed.write_bytes(f"\ufeff{cat}\r\n\r\n{rocket}\nhttp://127.0.0.1:1/x.png\n{cat}".encode())
    (tmp_path / "empty").mkdir()

    def sources() -> list[Any]:
        stdin = BytesIO(f"{rocket}\n".encode())
        return [listed, stdin, str(PHOTOS / "[ac]*[te].png"), tmp_path / "empty", str(tmp_path / "*.gif")]

    output = tmp_path / "r.jsonl"
    summary = classify(sources(), output, demo)
    found = records(output)
    assert [record.get("label", record.get("error", {}).get("type")) for record in found] == [
        *("cat", "ship", "UnsafeURLError", "cat"),  # the list, one input in it twice
        "ship",
        *("truck", "cat", "automobile"),
        *("ImageError", "ImageError"),
    ]
    assert found[-2]["source"] == str(tmp_path / "empty")
    assert "no images" in found[-2]["error"]["message"]
    assert summary.errors == 3
    again = classify(sources(), output, demo)
    assert (again.images, again.classified) == (10, 0)
    assert str(again) == "10 images, 3 errors, 10 of them from before"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_run_goes_on_where_it_was_stopped(
    demo: ViTPipeline, folder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / f"whole{suffix}"
    classify(folder, whole, demo)
    output, stop = tmp_path / f"r{suffix}", threading.Event()
    work = output if suffix == ".jsonl" else Path(f"{output}.jsonl")
    first = classify(folder, output, demo, stop=stop, progress=lambda s: s.images == 16 and stop.set())
    assert (first.images, first.interrupted) == (16, True)
    assert suffix == ".jsonl" or not output.exists()

    read: list[str] = []
    real = ViTPipeline.read

    def reading(self: ViTPipeline, source: Any, **options: Any) -> Any:
        read.append(source)
        return real(self, source, **options)

    monkeypatch.setattr(ViTPipeline, "read", reading)
    second = classify(folder, output, demo)
    assert (second.images, second.classified, second.interrupted) == (45, 29, False)
    done = [record["source"] for record in records(work)[:16]]
    assert not set(read) & set(done)
    assert_close(work, whole if suffix == ".jsonl" else Path(f"{whole}.jsonl"))
    assert suffix == ".jsonl" or output.stat().st_size == pytest.approx(whole.stat().st_size, rel=0.01)


KILLER = """
import os, random, sys, time
import torch
from vit_pipeline import ViTPipeline
from vit_pipeline.batch import classify

torch.set_num_threads(1)  # no threads yet: fit for forking
pipe = ViTPipeline.from_pretrained("demo", device="cpu")
listed, output, whole = sys.argv[1:]
for _ in range(5):
    begun, tell = os.pipe()
    child = os.fork()
    if not child:
        classify(listed, output, pipe, batch_size=4, progress=lambda _: os.write(tell, b"."))
        os._exit(0)
    os.read(begun, 1)
    time.sleep(random.random() * 0.1)
    os.kill(child, 9)
    print(os.waitpid(child, 0)[1], open(output).read().count("\\n"))
for path in (output, whole):
    classify(listed, path, pipe, batch_size=4)
"""


@pytest.mark.long
def test_killed_five_times_in_a_row(folder: Path, tmp_path: Path) -> None:
    whole, output, listed = tmp_path / "whole.jsonl", tmp_path / "r.jsonl", tmp_path / "list.txt"
    listed.write_text("\n".join(path for _, path in find_images([folder] * 6)))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILLER, listed, output, whole]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout
    ends = [tuple(map(int, line.split())) for line in said.splitlines()]
    assert len(ends) == 5
    assert [status for status, _ in ends].count(signal.SIGKILL) >= 3  # the last may have been quicker
    assert [size for _, size in ends] == sorted(size for _, size in ends)
    assert len(records(output)) == 45 * 6
    assert_close(output, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "r.jsonl", "whole.jsonl"]


@pytest.mark.slow
def test_errors_are_read_again(demo: ViTPipeline, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(10):
        Image.new("RGB", (40, 30), (25 * number, 0, 90)).save(images / f"{number}.png")
    for number in (2, 3, 8):
        (images / f"{number}.png").rename(images / f"{number}.good")
        (images / f"{number}.png").write_bytes(b"")
    output = tmp_path / "r.jsonl"
    first = classify(images, output, demo, batch_size=2)
    before = records(output)
    assert [number for number, record in enumerate(before) if "error" in record] == [2, 3, 8]
    assert classify(images, output, demo, batch_size=2).classified == 0

    (images / "2.good").replace(images / "2.png")
    (images / "8.good").replace(images / "8.png")
    Image.new("RGB", (40, 30)).save(images / "new.png")
    stop = threading.Event()
    stopped = classify(
        images, output, demo, batch_size=2, retry_errors=True, stop=stop, progress=lambda s: stop.set()
    )
    assert stopped.interrupted
    second = classify(images, output, demo, batch_size=2, retry_errors=True)
    after = records(output)
    assert [number for number, record in enumerate(after) if "error" in record] == [3]
    assert [after[n] for n in (0, 1, 4, 5, 6, 7, 9)] == [before[n] for n in (0, 1, 4, 5, 6, 7, 9)]
    assert after[2]["score"] == pytest.approx(demo(images / "2.png").score, abs=1e-6)
    assert (first.errors, second.errors, second.images) == (3, 1, 11)
    assert stopped.classified + second.classified >= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "r.jsonl"]


def small_images(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        Image.new("RGB", (20, 20), (number % 256, number // 2 % 256, 90)).save(folder / f"{number:04}.png")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 3])
def test_only_what_is_new_or_changed_is_read_again(
    demo: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    images, output, stop = tmp_path / "images", tmp_path / "r.jsonl", threading.Event()
    small_images(images, range(0, 400, 2))
    classify(images, output, demo)
    for number in range(0, 100, 20):
        (images / f"{number:04}.png").unlink()
    small_images(images, range(101, 200, 20))  # in the middle
    for number in range(300, 390, 20):  # replaced, some by a file of the same size
        Image.new("RGB", (20, 20), (0, 255, number % 255)).save(images / f"{number:04}.png")
    (images / "0396.png").write_bytes(b"bad")

    read: list[str] = []
    real = ViTPipeline.read

    def reading(self: ViTPipeline, source: Any, **options: Any) -> Any:
        read.append(Path(source).stem)
        return real(self, source, **options)

    monkeypatch.setattr(ViTPipeline, "read", reading)
    for _ in range(kills):  # stopped anywhere, it resumes all the same
        stop.clear()
        classify(images, output, demo, batch_size=2, stop=stop, progress=lambda _: stop.set())
    summary = classify(images, output, demo)
    changed = {f"{n:04}" for n in (*range(101, 200, 20), *range(300, 390, 20), 396)}
    assert set(read) == changed
    assert kills or len(read) == len(changed) == summary.classified
    monkeypatch.undo()
    classify(images, tmp_path / "fresh.jsonl", demo)
    assert_close(output, tmp_path / "fresh.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh.jsonl", "images", "r.jsonl"]


def test_records_of_other_inputs_are_kept_aside(demo: ViTPipeline, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    small_images(tmp_path / "a", range(4))
    small_images(tmp_path / "b", range(3))
    classify(tmp_path / "a", output, demo)
    before = records(output)
    assert classify(tmp_path / "b", output, demo).classified == 3
    assert [json.loads(line) for line in Path(f"{output}.aside").read_text().splitlines()] == before
    again = classify([tmp_path / "a", tmp_path / "b"], output, demo)
    assert (again.images, again.classified) == (7, 0)
    assert not Path(f"{output}.aside").exists()


def test_images_in_memory_are_never_those_of_an_earlier_run(demo: ViTPipeline, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    path = PHOTOS / "cat.png"
    kinds: list[Any] = [Image.open(path).convert("RGB"), path.read_bytes(), {"bytes": path.read_bytes()}]
    classify([*kinds, path], output, demo)
    other = Image.open(PHOTOS / "rocket.jpg").convert("RGB").resize(kinds[0].size)
    assert classify([other, *kinds[1:], path], output, demo).classified == 3
    assert [record["label"] for record in records(output)] == ["ship", "cat", "cat", "cat"]
    assert all(record["score"] == round(record["score"], 6) for record in records(output))
    assert classify([path], output, demo).classified == 0


def test_what_was_being_read_when_a_run_died_is_tried_first(demo: ViTPipeline, tmp_path: Path) -> None:
    output, notes = tmp_path / "r.jsonl", tmp_path / "r.jsonl.reading"
    small_images(tmp_path / "images", range(3))
    notes.write_bytes(b"\0".join(os.fsencode(tmp_path / "images" / name) for name in ("0001.png", "gone")))
    seen: list[bytes] = []
    summary = classify(tmp_path / "images", output, demo, progress=lambda _: seen.append(notes.read_bytes()))
    assert (summary.images, summary.errors, summary.classified) == (3, 0, 3)
    assert b"gone" in seen[0]  # not met so far
    assert not notes.exists()


def test_an_unreadable_folder_is_a_record_in_its_place(demo: ViTPipeline, tmp_path: Path, run: Run) -> None:
    top = tmp_path / "photos"
    for name in ("2021", "lost+found", "nice"):
        (top / name).mkdir(parents=True)
        small_images(top / name, range(2))
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    with pytest.MonkeyPatch.context() as patch:  # root may read everything
        patch.setattr(os, "scandir", scandir)
        classify(top, tmp_path / "r.jsonl", demo)
        code, out, _ = run("predict", "--json", "--model", "demo", top)
    expected = ["2021/0000.png", "2021/0001.png", "lost+found", "nice/0000.png", "nice/0001.png"]
    for found in (records(tmp_path / "r.jsonl"), [json.loads(line) for line in out.splitlines()]):
        assert [Path(record["source"]).relative_to(top).as_posix() for record in found] == expected
        assert [number for number, record in enumerate(found) if "error" in record] == [2]
        assert "Permission denied" in found[2]["error"]["message"]
    assert code == 1


@pytest.mark.slow
def test_an_image_that_hangs_is_an_error_record(
    demo: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_images(tmp_path / "images", range(20))
    forever = threading.Event()
    real = ViTPipeline.read

    def reading(self: ViTPipeline, source: Any, **options: Any) -> Any:
        if Path(source).stem in ("0004", "0005", "0011"):
            forever.wait()
        return real(self, source, **options)

    monkeypatch.setattr(ViTPipeline, "read", reading)
    summary = classify(tmp_path / "images", tmp_path / "r.jsonl", demo, time_limit=2, threads=2)
    assert (summary.images, summary.errors) == (20, 3)
    found = records(tmp_path / "r.jsonl")
    assert [number for number, record in enumerate(found) if "error" in record] == [4, 5, 11]
    assert "within 2 s" in found[4]["error"]["message"]
    forever.set()


@pytest.mark.slow
def test_a_decoder_that_hangs_holds_up_no_other_image(
    demo: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_images(tmp_path / "images", range(12))
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "0003b.tif")
    forever = threading.Event()
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", lambda self: forever.wait())
    summary = classify(tmp_path / "images", tmp_path / "r.jsonl", demo, time_limit=2, threads=2)
    assert (summary.images, summary.errors) == (13, 1)
    forever.set()


CRASHER = """
import os, sys
from pathlib import Path
import vit_pipeline.images as images, vit_pipeline.pipeline as pipeline

real = images.read_image
def read(source, **options):
    if Path(str(source)).stem == "0007":
        os.abort()
    return real(source, **options)
images.read_image = pipeline.read_image = read
"""


@pytest.mark.slow
def test_an_image_that_crashes_the_process_costs_one_restart(tmp_path: Path) -> None:
    small_images(tmp_path / "images", range(20))
    (tmp_path / "sitecustomize.py").write_text(CRASHER)
    output = tmp_path / "r.jsonl"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    first = command(tmp_path / "images", "-o", output, env=environment)
    assert first.returncode == -signal.SIGABRT
    second = command(tmp_path / "images", "-o", output, env=environment)
    assert second.returncode == 1, second.stderr
    found = records(output)
    assert [number for number, record in enumerate(found) if "error" in record] == [7]
    assert "crashes" in found[7]["error"]["message"]
    assert len(found) == 20
    assert sorted(path.suffix for path in tmp_path.glob("r.*")) == [".jsonl"]


def test_results_are_not_mixed(demo: ViTPipeline, half: ViTPipeline, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    classify(PHOTOS, output, demo)
    content = output.read_bytes()
    for changes, said in (
        ({"top_k": 3}, "top_k was 5, is 3"),
        ({"jpeg_draft": True}, r"jpeg_draft was null, is \[64, 64\]"),
    ):
        with pytest.raises(OutputError, match=said):
            classify(PHOTOS, output, demo, **changes)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="dtype was float32, is bfloat16"):
        classify(PHOTOS, output, half)
    other = ViTPipeline.from_pretrained("demo", device="cpu")
    other.provenance = replace(other.provenance)
    other.provenance.__dict__["sha256"] = demo.provenance.sha256 | {"model.safetensors": "0" * 64}
    with pytest.raises(OutputError, match=r"sha256 model\.safetensors was"):
        classify(PHOTOS, output, other)
    assert output.read_bytes() == content
    count = len(records(output))
    assert classify([PHOTOS, PHOTOS], output, demo, batch_size=3).images == 2 * count


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_a_resume_completes_it(
    demo: ViTPipeline, folder: Path, tmp_path: Path
) -> None:
    import resource

    whole, output = tmp_path / "whole.jsonl", tmp_path / "r.jsonl"
    classify(folder, whole, demo)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole.stat().st_size * 2 // 3, limit[1]))
    try:
        with pytest.raises(OutputError, match=r"r\.jsonl: cannot be written: .*run the same command again"):
            classify(folder, output, demo)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert output.read_bytes().endswith(b"}\n")
    assert whole.read_bytes().startswith(output.read_bytes())
    classify(folder, output, demo)
    assert_close(output, whole)


def test_drafts_decode_large_jpegs_at_a_reduced_size(
    demo: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = Image.open(PHOTOS / "rocket.jpg").convert("RGB").resize((1600, 1200))
    photo.save(tmp_path / "large.jpg")
    sizes: list[tuple[int, int]] = []
    real = pipeline.read_image

    def read(*arguments: Any, **options: Any) -> Image.Image:
        image = real(*arguments, **options)
        sizes.append(image.size)
        return image

    monkeypatch.setattr(pipeline, "read_image", read)
    (exact,) = demo.stream([tmp_path / "large.jpg"])
    (draft,) = demo.stream([tmp_path / "large.jpg"], jpeg_draft=True)
    assert sizes == [(1600, 1200), (200, 150)]
    assert isinstance(exact, Prediction)
    assert isinstance(draft, Prediction)
    assert (exact.label, draft.label) == ("ship", "ship")
    assert draft.score == pytest.approx(exact.score, abs=0.05)


# The command


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "vit_pipeline", "classify", "--model", "demo", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.mark.slow
def test_the_command(folder: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "r.jsonl"
    result = command(folder, "-o", output)
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert "45 images, 5 errors, " in result.stderr
    assert "--retry-errors" in result.stderr
    listed = "\n".join(str(PHOTOS / name) for name in NAMES)
    arguments = ["classify", "--model", "demo", "--from-file", "-", "-o", tmp_path / "s.csv"]
    code, _, said = run(*arguments, stdin=listed.encode())
    assert code == 0, said
    assert (tmp_path / "s.csv").read_text().splitlines()[1].split(",")[1] == "cat"
    code, _, said = run(*arguments, "--dtype", "bfloat16", stdin=listed.encode())
    assert code == 1
    assert said.splitlines()[-1].startswith("error: ")
    assert "dtype was float32, is bfloat16" in said
    assert run("classify", "--model", "demo", folder, "-o", tmp_path / "r.txt")[0] == 2


@pytest.mark.slow
def test_ctrl_c_finishes_the_batch_in_hand(folder: Path, tmp_path: Path, demo: ViTPipeline) -> None:
    listed, output = tmp_path / "list.txt", tmp_path / "r.jsonl"
    listed.write_text("\n".join(path for _, path in find_images([folder] * 40)))
    line = [sys.executable, "-m", "vit_pipeline", "classify", str(listed), "-o", str(output), "-m", "demo"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: output.exists() and output.stat().st_size > 5_000, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    count = len(records(output))
    assert 0 < count < 45 * 40
    listed.write_text("\n".join(listed.read_text().splitlines()[: count + 3]))
    assert classify(listed, output, demo).classified == 3


HANG = (
    "import sys, threading, vit_pipeline.pipeline as pipeline\n"
    "real = pipeline.read_image\n"
    "pipeline.read_image = lambda source, **o: threading.Event().wait() if '0003' in str(source) "
    "else real(source, **o)\n"
    "from vit_pipeline.__main__ import main\nmain()"
)


@pytest.mark.slow
def test_a_hang_ends_in_an_error_record_and_an_ordinary_exit(tmp_path: Path) -> None:
    small_images(tmp_path / "images", range(6))
    arguments = [tmp_path / "images", "-o", tmp_path / "r.jsonl", "-m", "demo", "--time-limit", "1"]
    line = [sys.executable, "-c", HANG, "classify", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    assert [number for number, record in enumerate(records(tmp_path / "r.jsonl")) if "error" in record] == [3]


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """Also while an image hangs that no time limit ends."""
    small_images(tmp_path / "images", range(4))
    line = [
        sys.executable,
        "-c",
        HANG,
        "classify",
        str(tmp_path / "images"),
        "-o",
        str(tmp_path / "r.jsonl"),
    ]
    process = subprocess.Popen([*line, "-m", "demo", "--batch-size", "1"], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: (tmp_path / "r.jsonl").exists() and len(records(tmp_path / "r.jsonl")) == 3, process)
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        while "finishing" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.communicate()
    assert len(records(tmp_path / "r.jsonl")) == 3


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], limit: float = 120) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, "the command has ended"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_errors_are_a_family(demo: ViTPipeline) -> None:
    (result,) = demo.stream([b"x"])
    assert isinstance(result, VitPipelineError)
    assert result.__traceback__ is None  # it would keep the pixels in memory
