"""What visitors share: batches that change no answer, rejections at once, models side by side."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import pytest
import torch
from conftest import PATIENCE
from hub_server import HubServer
from PIL import Image
from tiny import make_checkpoint

from vit_pipeline import ViTPipeline
from vit_pipeline.errors import CheckpointError, ImageError, ModelNameError
from vit_pipeline.webui import views
from vit_pipeline.webui.handlers import Handlers
from vit_pipeline.webui.server import THREADS
from vit_pipeline.webui.serving import MODELS_KEPT, Answer, Busy, ModelPool, Worker


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


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
    """A pipeline whose calls wait until they are let through."""

    def __init__(self, pipe: ViTPipeline) -> None:
        self.pipe = pipe
        self.open, self.entered = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def stream(self, sources: list[Any], *arguments: Any, **options: Any) -> Any:
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.sizes.append(len(sources))
        return self.pipe.stream(sources, *arguments, **options)


def opened(path: Path, name: str = "") -> io.BytesIO:
    file = io.BytesIO(path.read_bytes())
    file.name = name or path.name
    return file


def run(test: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))  # as the server does
        return await asyncio.wait_for(test, PATIENCE)

    return asyncio.run(limited())


def test_one_image_gets_just_what_predict_says(demo: ViTPipeline, images: list[Path]) -> None:
    answer: Answer = run(Worker().ask(demo, opened(images[0], "mine.png"), 3))
    assert answer.prediction.to_dict() == demo(images[0], 3).to_dict() | {"source": "mine.png"}
    assert answer.together == 1
    assert min(answer.waited, answer.took) >= 0


def test_images_that_wait_are_put_together_and_keep_their_answers(
    demo: ViTPipeline, images: list[Path]
) -> None:
    gate = Gate(demo)

    async def test() -> list[Answer]:
        worker = Worker()
        first = asyncio.create_task(worker.ask(gate, opened(images[0]), 1))  # type: ignore[arg-type]
        await asyncio.to_thread(gate.entered.wait, PATIENCE)
        rest = [worker.ask(gate, opened(path), 1 + n % 3) for n, path in enumerate(images[1:], 1)]  # type: ignore[arg-type]
        waiting = asyncio.gather(*rest)
        await asyncio.sleep(0)
        gate.open.set()
        return [await first, *await waiting]

    for number, (path, answer) in enumerate(zip(images, run(test()), strict=True)):
        alone = demo(path, 1 + number % 3)
        assert answer.prediction.source == path.name
        assert [entry.label for entry in answer.prediction.top] == [entry.label for entry in alone.top]
        assert answer.prediction.score == pytest.approx(alone.score, abs=1e-6)
    assert gate.sizes == [1, 8, 3]


def test_models_are_not_mixed_in_a_batch(demo: ViTPipeline, images: list[Path], tmp_path: Path) -> None:
    tiny = ViTPipeline.from_pretrained(make_checkpoint(tmp_path / "tiny"), device="cpu")

    async def test() -> list[Answer]:
        worker = Worker()
        return await asyncio.gather(
            *(worker.ask((demo, tiny)[n % 2], opened(path)) for n, path in enumerate(images))
        )

    for number, (path, answer) in enumerate(zip(images, run(test()), strict=True)):
        alone = (demo, tiny)[number % 2](path)
        assert (answer.prediction.model, answer.prediction.label) == (alone.model, alone.label)


def test_one_too_many_is_rejected_at_once_and_the_next_one_is_not(
    demo: ViTPipeline, images: list[Path]
) -> None:
    gate = Gate(demo)

    async def test() -> None:
        worker = Worker(max_waiting=3)
        waiting = [asyncio.create_task(worker.ask(gate, opened(path))) for path in images[:3]]  # type: ignore[arg-type]
        await asyncio.to_thread(gate.entered.wait, PATIENCE)
        with pytest.raises(Busy, match="try again"):
            await worker.ask(demo, opened(images[3]))
        gate.open.set()
        await asyncio.gather(*waiting)
        assert worker.places.taken == 0
        answer = await worker.ask(demo, opened(images[3]))
        assert answer.prediction.label == demo(images[3]).label

    run(test())


def test_whoever_goes_away_takes_no_answer_from_others(demo: ViTPipeline, images: list[Path]) -> None:
    gate = Gate(demo)

    async def test() -> None:
        worker = Worker()
        gone, stays = (asyncio.create_task(worker.ask(gate, opened(path))) for path in images[:2])  # type: ignore[arg-type]
        await asyncio.to_thread(gate.entered.wait, PATIENCE)
        gone.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        assert (await stays).prediction.source == images[1].name
        assert worker.places.taken == 0

    run(test())


def test_a_bad_image_fails_alone(demo: ViTPipeline, images: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "page.html"
    bad.write_text("<html>")

    async def test() -> list[Any]:
        worker = Worker()
        asked = (worker.ask(demo, opened(path)) for path in (images[0], bad, images[1]))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, error, last = run(test())
    assert isinstance(error, ImageError)
    assert "page.html" in str(error)
    assert str(tmp_path) not in str(error)
    assert first.prediction.label == demo(images[0]).label
    assert last.prediction.label == demo(images[1]).label


def test_a_failing_call_fails_its_batch_and_nothing_else(demo: ViTPipeline, images: list[Path]) -> None:
    class Broken(Gate):
        def stream(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("out of something")

    async def test() -> None:
        worker = Worker()
        with pytest.raises(RuntimeError, match="out of something"):
            await worker.ask(Broken(demo), opened(images[0]))  # type: ignore[arg-type]
        answer = await worker.ask(demo, opened(images[0]))
        assert answer.prediction.label == demo(images[0]).label

    run(test())


def test_urls_that_hang_take_no_places_of_images(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def hang(url: str, **_: Any) -> bytes:
        assert go_on.wait(PATIENCE)
        raise ImageError(f"{url}: too slow")

    monkeypatch.setattr("vit_pipeline.webui.handlers.fetch", hang)

    async def test() -> None:
        do = Handlers(ModelPool("demo", device="cpu"), Worker())
        ask = [do.classify(None, f"https://example.com/{n}", "en", "", 5, []) for n in range(9)]
        waiting = [asyncio.create_task(one) for one in ask]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (rejected,) = (one for one in waiting if one.done())
        assert rejected.result()[0]["problem"] == "Busy"
        answer, past = await do.classify({"path": str(images[0])}, "", "zh", "", 5, [])
        shown, _, history = await do.answers("zh", answer, [], past)
        assert "预测类别" in shown
        assert images[0].name in history
        assert answer["label"] == past[0]["label"] == do.models.start(images[0]).label
        go_on.set()
        for one in waiting:
            assert (await one)[0]["problem"] in ("Busy", "ImageError")

    run(test())


def test_several_images_and_what_went_wrong_with_all_of_them(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever language the page is by then."""
    monkeypatch.setattr("vit_pipeline.webui.handlers.MAX_FILES", 2)

    async def test() -> None:
        do = Handlers(ModelPool("demo", device="cpu"), Worker())
        files: list[dict[str, Any]] = [{"path": str(path)} for path in images[:3]]
        *_, (page, found) = [one async for one in do.classify_files(files, "en", "demo")]
        assert page == await do.results("en", found)
        assert "2 of 2 images classified" in page
        assert views.words("zh")("too_many", limit=2) in await do.results("zh", found)
        wanted = [do.models.start(path).label for path in images[:2]]
        assert [row["label"] for row in found["rows"]] == wanted
        for given, model, problem in (([], "demo", "NoImageError"), (files, "acme/x", "ModelNameError")):
            ((page, found),) = [one async for one in do.classify_files(given, "en", model)]
            assert views.words("en")(problem) in page == await do.results("en", found)
            assert views.words("zh")(problem) in await do.results("zh", found)
        assert await do.results("en", None) == ""

    run(test())


def test_two_models_beside_each_other(images: list[Path], tmp_path: Path) -> None:
    folder = str(make_checkpoint(tmp_path))

    async def test() -> None:
        do = Handlers(ModelPool("demo", [folder], device="cpu"), Worker())
        given = {"path": str(images[0])}, "", "demo"
        pair = await do.compare(*given, folder, 3)
        for one, name in zip(pair, ("demo", folder), strict=True):
            pipe = await do.models.get(name)
            expected = pipe(images[0])
            assert (one["model"], one["label"], len(one["top"])) == (name, expected.label, 3)
            assert one["parameters"] == pipe.model.num_parameters()
            scores = pipe.explain(images[0]).heatmap().ravel().clip(0)
            assert one["map"] == pytest.approx(list(scores / scores.max()), abs=1e-4)
        assert pair[0]["macs"] > pair[1]["macs"] > 0
        page = (await do.answers("zh", pair[0], pair, []))[1]
        assert page.count('class="vp-bars"') == 2
        for answer in (None, {**pair[0], "given": "another image"}):
            assert (await do.answers("zh", answer, pair, []))[1] == ""
        one, other = await do.compare(*given, "acme/other", 3)
        assert one["label"] == pair[0]["label"]
        assert other["problem"] == "ModelNameError"
        assert "acme/other" in (await do.answers("en", one, [one, other], []))[1]

    run(test())


def test_an_upload_is_a_strangers_image(demo: ViTPipeline, images: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.open(images[0]).save(path, "TIFF")  # read from local files only, whatever they are called
    demo.read(path)

    async def test() -> None:
        do = Handlers(ModelPool("demo", device="cpu"), Worker())
        for given, problem in ((path, "ImageError"), (tmp_path / "gone.png", "ImageError")):
            answer = (await do.classify({"path": str(given)}, "", "en", "", 5, []))[0]
            assert answer["problem"] == problem
            assert given.name in answer["detail"]
            assert str(tmp_path) not in str(answer)
        assert (await do.classify(None, str(images[0]), "en", "", 5, []))[0]["problem"] == "UnsafeURLError"
        assert (await do.classify(None, " ", "en", "", 5, []))[0]["problem"] == "NoImageError"
        given = "en", "", 5, []
        assert (await do.classify_image(None, "", *given))[0] is None  # taken away: so is its answer
        assert (await do.classify_image(None, "https://a.example", *given))[0] is not None  # a URL's stays
        for wrong in ({"image": 5}, {"image": {"path": str(images[0])}, "top_k": "abc"}):
            with pytest.raises(gr.Error, match=r"image is 5|top_k is 'abc'"):
                await do.api_classify(**wrong)

    run(test())


def test_the_pool_loads_what_is_allowed_and_keeps_what_works(
    hub: HubServer, tiny_files: dict[str, bytes]
) -> None:
    hub.add("acme/tiny", tiny_files)
    hub.add("acme/broken", tiny_files | {"config.json": b"{}"})
    pool = ModelPool("demo", ["acme/tiny", "acme/broken"], device="cpu")
    assert pool.choices == ("vit-base", "vit-small", "demo", "acme/tiny", "acme/broken")
    assert pool.find("") is pool.find("demo") is pool.start
    with pytest.raises(ModelNameError, match="not allowed"):
        run(pool.get("acme/other"))
    assert hub.requests == []
    with pytest.raises(CheckpointError):
        run(pool.get("acme/broken"))
    assert pool.find("acme/broken") is None
    reports: list[tuple[str, int, int]] = []
    loaded = run(pool.get("acme/tiny", lambda *report: reports.append(report)))
    assert loaded is pool.find("acme/tiny") is run(pool.get("acme/tiny"))
    assert reports
    assert len(loaded.labels) == 5
    assert pool.places.taken == 0


def test_the_pool_forgets_the_model_that_was_not_used_for_longest(tmp_path: Path) -> None:
    folders = [str(make_checkpoint(tmp_path / str(n), seed=n)) for n in range(MODELS_KEPT)]
    pool = ModelPool("demo", ["any"], device="cpu")
    assert pool.open
    first = run(pool.get(folders[0]))
    run(pool.get(folders[1]))
    assert pool.find(folders[0]) is first
    run(pool.get(folders[2]))
    assert pool.find(folders[1]) is None
    assert pool.find(folders[0]) is first
    assert pool.find(folders[2]) is not None
    assert pool.find("demo") is pool.start
    again = run(pool.get(folders[1]))  # not answered by another model: loaded again
    assert again.name == folders[1]


def test_an_address_sets_the_page_and_loads_nothing(tmp_path: Path) -> None:
    folder = str(make_checkpoint(tmp_path))
    do = Handlers(ModelPool("demo", [folder], device="cpu"), Worker())

    def visit(search: str, language: str = "en-GB") -> Any:
        query = dict(parse_qsl(search.removeprefix("?")))  # as page.js does
        return run(do.visit({**query, "language": language, "origin": "http://localhost"}))[:6]

    plain = visit("")
    assert (plain[0], plain[1], plain[2], plain[3]["selected"], plain[4:]) == (
        "en",
        "demo",
        "demo",
        "classify",
        (5, ""),
    )
    assert visit("", "zh-TW")[0] == visit("?lang=zh")[0] == "zh"
    assert visit("?lang=en", "zh-CN")[0] == visit("?lang=xx", "zh-CN")[0] == visit("", "de")[0] == "en"
    chosen = visit("?lang=zh&model=demo&tab=api&top_k=3")
    assert (chosen[1], chosen[3]["selected"], chosen[4]) == ("demo", "api", 3)
    for number, shown in (("0", 1), ("99", 10), ("1e9", 5), ("-1", 5), ("٣", 3)):
        assert visit(f"?top_k={number}")[4] == shown
    for name, choice in ((folder, folder), ("<b>/x", "demo")):
        _, used, chosen_name, tabs, _, status = visit(f"?model={name}&tab=api")
        assert ("Load" in status) == (name == folder)  # what is not allowed cannot be loaded
        assert (used, chosen_name, tabs["selected"]) == ("demo", choice, "model")
        assert "demo" in status
        assert "<b>" not in status
    assert do.models.find(folder) is None
