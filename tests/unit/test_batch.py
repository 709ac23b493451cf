from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PATIENCE, Spawn, wait_for
from PIL import Image

from vit_pipeline import Prediction, ViTPipeline
from vit_pipeline.batch import Summary, classify_folder
from vit_pipeline.batch.fast import fast_forward
from vit_pipeline.batch.inputs import find_inputs
from vit_pipeline.batch.prefetch import ahead
from vit_pipeline.errors import (
    ArgumentError,
    CheckpointError,
    DeviceError,
    ImageError,
    OutputError,
    VitPipelineError,
)

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
    paths = [path for _, path in find_inputs([folder])]
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
        classify_folder(PHOTOS, tmp_path / "r.txt", demo)
    with pytest.raises(ArgumentError, match="batch_size"):
        classify_folder(PHOTOS, tmp_path / "r.jsonl", demo, batch_size=-1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_the_inputs_comes_after_the_results_before_it(demo: ViTPipeline) -> None:
    def broken() -> Iterator[Path]:
        yield from [PHOTOS / "cat.png"] * 3
        raise ZeroDivisionError

    stream = demo.stream(broken(), 2)
    assert [next(stream).label for _ in range(3)] == ["cat"] * 3  # type: ignore[union-attr]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_work_is_done_in_order_by_several_threads() -> None:
    both = threading.Barrier(2, timeout=PATIENCE)

    def work(number: int) -> int:
        both.wait()  # passes only while two threads are at work
        time.sleep(random.random() / 1000)
        if number == 7:
            raise KeyError(number)
        return -number

    results = ahead(work, range(10), threads=2, depth=4)
    assert [next(results) for _ in range(7)] == [0, -1, -2, -3, -4, -5, -6]
    with pytest.raises(KeyError):
        next(results)


# The faster forward passes


@pytest.fixture(scope="module")
def half() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu", dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_image_depends_on_the_others_in_its_batch(
    demo: ViTPipeline, half: ViTPipeline, dtype: str
) -> None:
    """This is what makes a run that goes on equal to the bit."""
    pipe = demo if dtype == "float32" else half
    forward = fast_forward(pipe, 4)
    pixel_values = pipe.preprocess([pipe.read(PHOTOS / name) for name in NAMES])
    logits = forward(pixel_values)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, pipe.forward(pixel_values).float())
    alone = torch.zeros_like(pixel_values)
    alone[2] = pixel_values[2]
    assert torch.equal(forward(alone)[2], logits[2])


def test_a_compiled_model_gets_full_batches_only(demo: ViTPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[torch.Size] = []

    def compile(function: Any, dynamic: bool) -> Any:
        def compiled(pixel_values: torch.Tensor) -> torch.Tensor:
            shapes.append(pixel_values.shape)
            return function(pixel_values)  # type: ignore[no-any-return]

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    paths = [PHOTOS / name for name in NAMES] + [PHOTOS / "none.png"]
    assert_same(list(demo.stream(paths, 3, compile=True)), demo(paths, on_error="return"))
    assert shapes == [(3, 3, 32, 32)] * 2


def test_a_model_that_cannot_be_compiled_is_one_line(
    demo: ViTPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(function: Any, dynamic: bool) -> Any:
        def compiled(_: torch.Tensor) -> torch.Tensor:
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\nand much more")

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(DeviceError, match=r"cannot be compiled here \(no C\+\+ compiler\); run without"):
        list(demo.stream([PHOTOS / "cat.png"], compile=True))


def test_a_model_that_breaks_down_ends_the_run(
    demo: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = torch.full((4, 10), float("nan"))
    monkeypatch.setattr("vit_pipeline.batch.streaming.fast_forward", lambda *_, **__: lambda pixels: nan)
    with pytest.raises(CheckpointError, match="not finite"):
        classify_folder(PHOTOS, tmp_path / "r.jsonl", demo)


# Folders to files


@pytest.mark.slow
def test_every_file_has_a_record_in_order(demo: ViTPipeline, folder: Path, tmp_path: Path) -> None:
    seen: list[Summary] = []
    summary = classify_folder(folder, tmp_path / "r.jsonl", demo, progress=seen.append, top_k=3)
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
            assert set(record) == {"source", "error"}
            assert record["error"]["type"] == "ImageError"
            assert path.name in record["error"]["message"]
        else:
            alone = demo(path, top_k=3).to_dict()
            assert {**record, "score": 0, "top": 0} == {
                k: 0 if k in ("score", "top") else v for k, v in alone.items() if k != "model"
            }
            assert record["score"] == pytest.approx(alone["score"], abs=1e-6)
            assert len(record["top"]) == 3
    header = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])["vit_pipeline"]
    assert header["sha256"] == demo.provenance.sha256
    assert (header["model"], header["from"], header["revision"]) == ("demo", "embedded", None)
    assert (header["dtype"], header["top_k"]) == ("float32", 3)
    assert header["recipe"]["image_mean"] == [0.5, 0.5, 0.5]
    assert header["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def test_lists_patterns_and_stdin(demo: ViTPipeline, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    cat, rocket = str(PHOTOS / "cat.png"), str(PHOTOS / "rocket.jpg")
    listed.write_bytes(f"\ufeff{cat}\r\n\r\n{rocket}\nhttp://127.0.0.1:1/x.png\n{cat}".encode())
    (tmp_path / "empty").mkdir()
    sources = [listed, "-", str(PHOTOS / "c*.png"), tmp_path / "empty", str(tmp_path / "*.gif")]
    output = tmp_path / "r.jsonl"
    summary = classify_folder(sources, output, demo, stdin=[f"{rocket}\n".encode()])
    found = records(output)
    assert [record.get("label", record.get("error", {}).get("type")) for record in found] == [
        *("cat", "ship", "UnsafeURLError", "cat"),  # the list, one input in it twice
        "ship",
        *("cat", "automobile"),
        *("ImageError", "ImageError"),
    ]
    assert found[7]["source"] == str(tmp_path / "empty")
    assert "no images" in found[7]["error"]["message"]
    assert summary.errors == 3
    again = classify_folder(sources, output, demo, stdin=[f"{rocket}\n".encode()])
    assert (again.images, again.classified) == (9, 0)
    assert str(again) == "9 images, 3 errors, 9 of them from before"


def test_a_list_that_cannot_be_read_is_an_error_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("x")

    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    ((name, error),) = find_inputs([tmp_path / "list.txt"])
    assert name.endswith("list.txt")
    assert "cannot be read: Permission denied" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_run_goes_on_where_it_was_stopped(
    demo: ViTPipeline, folder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / f"whole{suffix}"
    classify_folder(folder, whole, demo)
    output, stop = tmp_path / f"r{suffix}", threading.Event()
    work = output if suffix == ".jsonl" else Path(f"{output}.jsonl")
    first = classify_folder(folder, output, demo, stop=stop, progress=lambda s: s.images == 16 and stop.set())
    assert (first.images, first.interrupted) == (16, True)
    assert suffix == ".jsonl" or not output.exists()

    read: list[str] = []
    real = ViTPipeline.postprocess

    def postprocess(self: ViTPipeline, logits: Any, top_k: int, sources: Any) -> Any:
        read.extend(sources)
        return real(self, logits, top_k, sources)

    monkeypatch.setattr(ViTPipeline, "postprocess", postprocess)
    second = classify_folder(folder, output, demo)
    assert (second.images, second.classified, second.interrupted) == (45, 29, False)
    done = [record["source"] for record in records(work)[:16]]
    assert not set(read) & set(done)
    reference = whole if suffix == ".jsonl" else Path(f"{whole}.jsonl")
    assert work.read_bytes() == reference.read_bytes()
    assert suffix == ".parquet" or output.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_cut_anywhere_ends_in_the_same_bytes(
    demo: ViTPipeline, half: ViTPipeline, folder: Path, tmp_path: Path, dtype: str
) -> None:
    """Also within a batch, where bad files and images that were read before change its shape."""
    pipe = demo if dtype == "float32" else half
    output = tmp_path / "r.jsonl"
    classify_folder(folder, output, pipe)
    whole = output.read_bytes()
    for cut in random.Random(1).sample(range(len(whole)), 5):
        output.write_bytes(whole[:cut])
        classify_folder(folder, output, pipe)
        assert output.read_bytes() == whole


KILLER = """
import os, random, sys, time
import torch
from vit_pipeline import ViTPipeline
from vit_pipeline.batch import classify_folder

torch.set_num_threads(1)  # no threads yet: fit for forking
pipe = ViTPipeline.from_pretrained("demo", device="cpu")
listed, output, whole = sys.argv[1:]
for _ in range(5):
    begun, tell = os.pipe()
    child = os.fork()
    if not child:
        classify_folder(listed, output, pipe, batch_size=4, progress=lambda _: os.write(tell, b"."))
        os._exit(0)
    os.read(begun, 1)
    time.sleep(random.random() * 0.1)
    os.kill(child, 9)
    print(os.waitpid(child, 0)[1], os.stat(output).st_size)
for path in (output, whole):
    classify_folder(listed, path, pipe, batch_size=4)
"""


@pytest.mark.slow
def test_killed_five_times_in_a_row(folder: Path, tmp_path: Path, spawn: Spawn) -> None:
    whole, output, listed = tmp_path / "whole.jsonl", tmp_path / "r.jsonl", tmp_path / "list.txt"
    listed.write_text("\n".join(path for _, path in find_inputs([folder] * 6)))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILLER, listed, output, whole]
    process = spawn(*command, stderr=None)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    ends = [tuple(map(int, line.split())) for line in said.splitlines()]
    assert len(ends) == 5
    assert [status for status, _ in ends].count(signal.SIGKILL) >= 3  # the last may have been quicker
    assert [size for _, size in ends] == sorted(size for _, size in ends)
    assert len(records(output)) == 45 * 6
    assert output.read_bytes() == whole.read_bytes()


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
    first = classify_folder(images, output, demo, batch_size=2)
    before = records(output)
    assert [number for number, record in enumerate(before) if "error" in record] == [2, 3, 8]
    assert classify_folder(images, output, demo, batch_size=2).classified == 0

    (images / "2.good").replace(images / "2.png")
    (images / "8.good").replace(images / "8.png")
    Image.new("RGB", (40, 30)).save(images / "new.png")
    stop = threading.Event()
    stopped = classify_folder(
        images, output, demo, batch_size=2, retry_errors=True, stop=stop, progress=lambda s: stop.set()
    )
    assert stopped.interrupted
    assert records(output) == before
    second = classify_folder(images, output, demo, batch_size=2, retry_errors=True)
    after = records(output)
    assert [number for number, record in enumerate(after) if "error" in record] == [3]
    assert [r for n, r in enumerate(after) if n in (0, 1, 4, 5, 6, 7, 9)] == [
        r for n, r in enumerate(before) if n in (0, 1, 4, 5, 6, 7, 9)
    ]
    assert after[2]["score"] == pytest.approx(demo(images / "2.png").score, abs=1e-6)
    assert (first.errors, second.errors, second.images, second.classified) == (3, 1, 11, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "r.jsonl"]


@pytest.mark.slow
def test_results_are_not_mixed(demo: ViTPipeline, half: ViTPipeline, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    classify_folder(PHOTOS, output, demo)
    content = output.read_bytes()
    for changes, said in (
        ({"top_k": 3}, "top_k was 5, is 3"),
        ({"jpeg_draft": True}, r"jpeg_draft was null, is \[64, 64\]"),
        ({"compile": True}, "compile was false, is true"),
    ):
        with pytest.raises(OutputError, match=said):
            classify_folder(PHOTOS, output, demo, **changes)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="dtype was float32, is bfloat16"):
        classify_folder(PHOTOS, output, half)
    other = ViTPipeline.from_pretrained("demo", device="cpu")
    other.provenance = replace(other.provenance)
    other.provenance.__dict__["sha256"] = demo.provenance.sha256 | {"model.safetensors": "0" * 64}
    with pytest.raises(OutputError, match=r"sha256 model\.safetensors was"):
        classify_folder(PHOTOS, output, other)
    for inputs in ([PHOTOS / "rocket.jpg"], [PHOTOS / "astronaut.png"]):
        with pytest.raises(OutputError, match=r"(was|given now).*inputs have changed"):
            classify_folder(inputs, output, demo)
    assert output.read_bytes() == content
    assert classify_folder([PHOTOS, PHOTOS], output, demo, batch_size=3).classified == 7


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_a_resume_completes_it(
    demo: ViTPipeline, folder: Path, tmp_path: Path
) -> None:
    import resource

    whole, output = tmp_path / "whole.jsonl", tmp_path / "r.jsonl"
    classify_folder(folder, whole, demo)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole.stat().st_size * 2 // 3, limit[1]))
    try:
        with pytest.raises(OutputError, match=r"r\.jsonl: cannot be written: .*run the same command again"):
            classify_folder(folder, output, demo)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert output.read_bytes().endswith(b"}\n")
    assert whole.read_bytes().startswith(output.read_bytes())
    classify_folder(folder, output, demo)
    assert output.read_bytes() == whole.read_bytes()


def test_drafts_decode_large_jpegs_at_a_reduced_size(
    demo: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vit_pipeline.batch import streaming

    photo = Image.open(PHOTOS / "rocket.jpg").convert("RGB").resize((1600, 1200))
    photo.save(tmp_path / "large.jpg")
    sizes: list[tuple[int, int]] = []
    real = streaming.read_image

    def read(*arguments: Any, **options: Any) -> Image.Image:
        image = real(*arguments, **options)
        sizes.append(image.size)
        return image

    monkeypatch.setattr(streaming, "read_image", read)
    (exact,) = demo.stream([tmp_path / "large.jpg"])
    (draft,) = demo.stream([tmp_path / "large.jpg"], jpeg_draft=True)
    assert sizes == [(1600, 1200), (200, 150)]
    assert isinstance(exact, Prediction)
    assert isinstance(draft, Prediction)
    assert (exact.label, draft.label) == ("ship", "ship")
    assert draft.score == pytest.approx(exact.score, abs=0.05)


# The command


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vit_pipeline", "classify", "--model", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, **options)


@pytest.mark.slow
def test_the_command(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    result = run(folder, "-o", output)
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert "45 images, 5 errors, " in result.stderr
    assert "--retry-errors" in result.stderr
    listed = "\n".join(str(PHOTOS / name) for name in NAMES)
    result = run("-", "-o", tmp_path / "s.csv", "--dtype", "float32", input=listed)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "s.csv").read_text().splitlines()[1].split(",")[1] == "cat"
    result = run("-", "-o", tmp_path / "s.csv", "--dtype", "bfloat16", input=listed)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "dtype was float32, is bfloat16" in result.stderr
    assert run(folder, "-o", tmp_path / "r.txt").returncode == 2


@pytest.mark.slow
def test_ctrl_c_finishes_the_batch_in_hand(
    folder: Path, tmp_path: Path, demo: ViTPipeline, spawn: Spawn
) -> None:
    listed, output = tmp_path / "list.txt", tmp_path / "r.jsonl"
    listed.write_text("\n".join(path for _, path in find_inputs([folder] * 40)))
    command = [sys.executable, "-m", "vit_pipeline", "classify", str(listed), "-o", str(output), "-m", "demo"]
    process = spawn(*command, "--dtype", "float32")
    wait_for(lambda: process.poll() is not None or (output.exists() and output.stat().st_size >= 5_000))
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "run the same command again to go on" in said
    assert "Traceback" not in said
    count = len(records(output))
    assert 0 < count < 45 * 40
    assert count % 8 == 0
    listed.write_text("\n".join(listed.read_text().splitlines()[: count + 3]))
    assert classify_folder(listed, output, demo).classified == 3


def test_errors_are_a_family(demo: ViTPipeline) -> None:
    (result,) = demo.stream([b"x"])
    assert isinstance(result, VitPipelineError)
    assert result.__traceback__ is None  # it would keep the pixels in memory
