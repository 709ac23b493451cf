"""The worker behind the WebUI: batches that change no answer, refusals at once, models side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from conftest import PATIENCE
from hub_server import HubServer
from PIL import Image
from tiny import make_checkpoint

from vit_pipeline import ViTPipeline
from vit_pipeline.errors import CheckpointError, ImageError, ModelNameError
from vit_pipeline.webui.model_pool import KEPT, ModelPool
from vit_pipeline.webui.serving import Answer, Busy, Worker


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(max_waiting=16, max_batch=8)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        small = torch.randint(0, 256, (4, 5, 3), dtype=torch.uint8, generator=generator)
        path = folder / f"{seed}.png"
        Image.fromarray(small.numpy()).resize((60, 50)).save(path)
        paths.append(path)
    return paths


class Gate:
    """A pipeline whose forward pass waits until it is let through."""

    def __init__(self, pipe: ViTPipeline) -> None:
        self.pipe = pipe
        self.open, self.entered = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.pipe, name)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.sizes.append(len(pixel_values))
        return self.pipe.forward(pixel_values)


def results(futures: list[Future[Answer]]) -> list[Answer]:
    return [future.result(PATIENCE) for future in futures]


def test_one_image_gets_just_what_predict_says(demo: ViTPipeline, worker: Worker, images: list[Path]) -> None:
    answer = worker.submit(demo, images[0], name="mine.png", top_k=3, keep=True).result(PATIENCE)
    alone = demo(images[0], 3)
    assert answer.prediction.to_dict() == alone.to_dict() | {"source": "mine.png"}
    assert answer.batch == 1
    assert set(answer.seconds) == {"read", "preprocess", "forward", "postprocess"}
    assert answer.image is not None
    assert answer.image.size == (60, 50)
    assert answer.pixel_values is not None
    assert torch.equal(answer.pixel_values, demo.preprocess(demo.read(images[0])))


def test_images_that_wait_are_put_together_and_keep_their_answers(
    demo: ViTPipeline, worker: Worker, images: list[Path]
) -> None:
    gate = Gate(demo)
    futures = []
    for number, path in enumerate(images):
        futures.append(worker.submit(gate, path, name=path.name, top_k=1 + number % 3))  # type: ignore[arg-type]
        assert gate.entered.wait(PATIENCE)
    wait_until_prepared(worker, len(images) - 1)
    gate.open.set()
    for number, (path, answer) in enumerate(zip(images, results(futures), strict=True)):
        alone = demo(path, 1 + number % 3)
        assert answer.prediction.source == path.name
        assert [entry.label for entry in answer.prediction.top] == [entry.label for entry in alone.top]
        assert answer.prediction.score == pytest.approx(alone.score, abs=1e-6)
        assert answer.pixel_values is None
    assert gate.sizes == [1, 8, 3]


def test_models_are_not_mixed_in_a_batch(
    demo: ViTPipeline, worker: Worker, images: list[Path], tmp_path: Path
) -> None:
    tiny = ViTPipeline.from_pretrained(make_checkpoint(tmp_path / "tiny"), device="cpu")
    gates = [Gate(demo), Gate(tiny)]
    futures = []
    for number, path in enumerate(images):
        futures.append(worker.submit(gates[number % 2], path))  # type: ignore[arg-type]
        assert gates[0].entered.wait(PATIENCE)
    wait_until_prepared(worker, len(images) - 1)
    for gate in gates:
        gate.open.set()
    answers = results(futures)
    for number, (path, answer) in enumerate(zip(images, answers, strict=True)):
        alone = (demo, tiny)[number % 2](path)
        assert (answer.prediction.model, answer.prediction.label) == (alone.model, alone.label)


def test_one_too_many_is_refused_at_once_and_the_next_one_is_not(
    demo: ViTPipeline, worker: Worker, images: list[Path]
) -> None:
    gate = Gate(demo)
    futures = [worker.submit(gate, images[n % 12]) for n in range(16)]  # type: ignore[arg-type]
    with pytest.raises(Busy, match="try again"):
        worker.submit(demo, images[0])
    assert worker.unfinished == 16
    gate.open.set()
    results(futures)
    assert worker.submit(demo, images[0]).result(PATIENCE).prediction.label == demo(images[0]).label
    assert worker.unfinished == 0


def test_urls_that_hang_take_no_places_of_images(
    demo: ViTPipeline, worker: Worker, images: list[Path]
) -> None:
    waiting = threading.Event()

    class Slow(Gate):
        def read(self, source: object) -> Image.Image:
            if isinstance(source, str):
                assert waiting.wait(PATIENCE)
                raise ImageError(f"{source}: too slow")
            return self.pipe.read(source)

    slow = Slow(demo)
    slow.open.set()
    futures = [worker.submit(slow, f"http://example.com/{n}") for n in range(8)]  # type: ignore[arg-type]
    with pytest.raises(Busy):
        worker.submit(slow, "http://example.com/9")  # type: ignore[arg-type]
    assert worker.submit(slow, images[0]).result(PATIENCE).prediction.label == demo(images[0]).label  # type: ignore[arg-type]
    waiting.set()
    for future in futures:
        with pytest.raises(ImageError, match="too slow"):
            future.result(PATIENCE)


def test_a_bad_image_fails_alone(
    demo: ViTPipeline, worker: Worker, images: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "page.html"
    bad.write_text("<html>")
    futures = [worker.submit(demo, path, name=path.name) for path in (images[0], bad, images[1])]
    with pytest.raises(ImageError, match=r"page\.html") as caught:
        futures[1].result(PATIENCE)
    assert str(tmp_path) not in str(caught.value)
    assert futures[0].result(PATIENCE).prediction.label == demo(images[0]).label
    assert futures[2].result(PATIENCE).prediction.label == demo(images[1]).label
    gone = worker.submit(demo, tmp_path / "gone.png", name="gone.png")
    with pytest.raises(ImageError, match="upload is gone"):
        gone.result(PATIENCE)
    assert worker.unfinished == 0


def test_an_upload_is_a_strangers_image(
    demo: ViTPipeline, worker: Worker, images: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    Image.open(images[0]).save(path, "TIFF")  # read from local files only, whatever they are called
    demo.read(path)
    with pytest.raises(ImageError):
        worker.submit(demo, path, name="image.png").result(PATIENCE)


def test_a_failing_forward_pass_fails_its_batch_and_nothing_else(
    demo: ViTPipeline, worker: Worker, images: list[Path]
) -> None:
    class Broken(Gate):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of something")

    with pytest.raises(RuntimeError, match="out of something"):
        worker.submit(Broken(demo), images[0]).result(PATIENCE)  # type: ignore[arg-type]
    assert worker.submit(demo, images[0]).result(PATIENCE).prediction.label == demo(images[0]).label


def test_the_pool_loads_what_is_allowed_and_keeps_what_works(
    hub: HubServer, tiny_files: dict[str, bytes]
) -> None:
    hub.add("acme/tiny", tiny_files)
    hub.add("acme/broken", tiny_files | {"config.json": b"{}"})
    pool = ModelPool("demo", ["acme/tiny", "acme/broken"], device="cpu")
    assert pool.choices == ("vit-base", "vit-small", "demo", "acme/tiny", "acme/broken")
    assert pool.find("") is pool.find("demo") is pool.start
    with pytest.raises(ModelNameError, match="not allowed"):
        pool.load("acme/other")
    assert hub.requests == []
    with pytest.raises(CheckpointError):
        pool.load("acme/broken")
    assert pool.find("acme/broken") is None
    reports: list[tuple[str, int, int]] = []
    loaded = pool.load("acme/tiny", lambda *report: reports.append(report))
    assert loaded is pool.find("acme/tiny") is pool.load("acme/tiny")
    assert reports
    assert len(loaded.pipe.labels) == 5
    assert not pool.busy


def test_the_pool_forgets_the_model_that_was_not_used_for_longest(tmp_path: Path) -> None:
    folders = [str(make_checkpoint(tmp_path / str(n), seed=n)) for n in range(KEPT)]
    pool = ModelPool("demo", ["any"], device="cpu")
    assert pool.open
    first = pool.load(folders[0])
    pool.load(folders[1])
    assert pool.find(folders[0]) is first
    pool.load(folders[2])
    assert pool.find(folders[1]) is None
    assert pool.find(folders[0]) is first
    assert pool.find("demo") is pool.start


def wait_until_prepared(worker: Worker, count: int) -> None:
    """Until so many images wait for the model thread."""
    for _ in range(3000):
        if worker._ready.qsize() >= count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{worker._ready.qsize()} of {count} images were prepared")
