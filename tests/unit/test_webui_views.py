"""The pieces of the page: what others wrote is escaped, numbers are honest, images are what was seen."""

from __future__ import annotations

import base64
import inspect
import os
import re
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_checkpoint

from vit_pipeline import LabelScore, Prediction, ViTPipeline, errors
from vit_pipeline.checkpoints.processors import seen_image
from vit_pipeline.images import to_data_url
from vit_pipeline.webui import views
from vit_pipeline.webui.server import sweep
from vit_pipeline.webui.serving import Answer, Busy

EVIL = "<img src=x onerror=alert(1)>${alert(1)}{{1}}'\""


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


def answer(pipe: ViTPipeline, label: str = EVIL) -> dict[str, Any]:
    top = (LabelScore(label, 0.75, 1), LabelScore("other", 0.0001, 0))
    prediction = Prediction(label, 0.75, 1, top, source=EVIL, model=EVIL)
    images = {"given": EVIL, "tiny": EVIL, "seen": EVIL, "given_size": (640, 480), "seen_size": (32, 32)}
    more = {"patch": (4, 4), "grid": (8, 8), "when": EVIL}
    return views.shown(Answer(prediction, 0.01, 0.25, 3), pipe) | images | more


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_others_wrote_is_escaped(demo: ViTPipeline, lang: str, tmp_path: Path) -> None:
    pipe = ViTPipeline.from_pretrained(make_checkpoint(tmp_path), device="cpu")
    pipe.labels = (EVIL, *pipe.labels[1:])
    shown = answer(demo)
    failed = {"problem": "ImageError", "detail": EVIL}
    pieces = [
        views.render("answer", lang, answer=shown),
        views.render("history", lang, past=[shown]),
        views.render("failed", lang, answer=failed),
        views.render("badge", lang, name=EVIL),
        views.render("api", lang, origin=EVIL),
        views.table([shown, failed | {"source": EVIL}], lang),
        views.card(pipe, lang),
        views.message(lang, "loaded", model=EVIL),
    ]
    for piece in pieces:
        assert "<img src=x" not in piece
        assert "&lt;img src=x" in piece


def test_an_answer_says_all_there_is(demo: ViTPipeline) -> None:
    text = re.sub(r"<[^>]+>|\s+", " ", views.render("answer", "en", answer=answer(demo, "tabby, tabby cat")))
    text = re.sub(r" +", " ", text.replace("&lt;", "<"))
    for part in (
        "Predicted class: tabby, tabby cat",
        "Probability 75.0% among 10 classes",
        "Among 10 classes tabby, tabby cat 75.0%",
        "other <0.1%",
        "640×480 pixels",
        "took 250 ms",
    ):
        assert part in text
    assert "8×8 patches of 4×4" in text
    assert "with 2 other waiting images" in text


@pytest.mark.parametrize(
    ("score", "text"), [(0, "0.0%"), (1, "100.0%"), (0.9999, ">99.9%"), (0.0004, "<0.1%"), (0.753, "75.3%")]
)
def test_a_probability_says_among_how_few_classes(score: float, text: str) -> None:
    assert views.probability(views.words("en"), score, 1000) == text
    assert views.probability(views.words("en"), score, 10) == f"{text} among 10 classes"
    assert text in views.probability(views.words("zh"), score, 10)


def test_the_csv_is_safe_and_reads_chinese(demo: ViTPipeline) -> None:
    bad = {"problem": "ImageError", "detail": "-no", "source": "猫.png"}
    page = views.table([answer(demo, "@SUM(1)") | {"source": "=cmd|x"}, bad], "zh")
    data = re.search(r"data:text/csv;base64,([^\"]+)", page)
    assert data is not None
    content = base64.b64decode(data[1])
    assert content.startswith(b"\xef\xbb\xbf")
    lines = content.decode("utf-8-sig").splitlines()
    assert lines[0] == "source,label,score,index,model,error"
    assert lines[1].startswith("'=cmd|x,'@SUM(1),0.75,1,")
    assert lines[2] == "猫.png,,,,,'-no"


def test_the_seen_image_is_what_the_model_saw(demo: ViTPipeline) -> None:
    pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(pixels.numpy())
    seen = seen_image(demo.processor, demo.preprocess(image))
    assert np.array_equal(np.asarray(seen), np.asarray(image))
    again = Image.open(BytesIO(base64.b64decode(to_data_url(seen).partition(",")[2])))
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_the_pictures_of_an_answer(demo: ViTPipeline) -> None:
    found = views.pictured(demo, Image.new("RGB", (1000, 500), "teal"))
    assert (found["given_size"], found["seen_size"], found["patch"], found["grid"]) == (
        (1000, 500), (32, 32), (4, 4), (8, 8),
    )  # fmt: skip
    sizes = {}
    for name in ("given", "tiny", "seen"):
        sizes[name] = Image.open(BytesIO(base64.b64decode(found[name].partition(",")[2]))).size
    assert sizes == {"given": (360, 180), "tiny": (88, 44), "seen": (32, 32)}


def test_a_visitor_gets_no_advice_for_programs() -> None:
    error = errors.ImageError("<file big.png>: it is 108 megapixels; scale it down, or raise max_pixels")
    found = views.failed(error)
    assert found == {"problem": "ImageError", "detail": "big.png: it is 108 megapixels"}
    assert "max_pixels" not in views.render("failed", "en", answer=found)
    assert "raise max_pixels" in views.for_program(error)
    for lang in ("en", "zh"):
        assert views.words(lang)("Busy") in views.render("failed", lang, answer=views.failed(Busy("busy: x")))


def test_every_error_has_a_sentence() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    found = {kind.__name__: views.failed(kind("x: y"))["problem"] for kind in kinds}
    assert found["UnsafeURLError"] == "UnsafeURLError"
    assert found["OutputError"] == found["ArgumentError"] == "VitPipelineError"
    assert "Exception" not in found.values()


def test_what_nobody_foresaw_is_for_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert views.failed(RuntimeError("a secret")) == {"problem": "Exception", "detail": ""}
    assert "a secret" not in views.for_program(RuntimeError("a secret"))
    assert "RuntimeError: a secret" in capsys.readouterr().err


def test_old_uploads_are_deleted_and_the_oldest_of_too_many_but_not_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own" / "example.png"
    for path, age in (
        *((tmp_path / str(n) / "image.png", a) for n, a in enumerate((5000, 300, 200, 100))),
        (own, 9000),
    ):
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - age,) * 2)
    sweep(tmp_path, {own}, age=1000, size=10**6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3", "own"]
    sweep(tmp_path, {own}, age=1000, size=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "own"]


def test_what_launch_would_set_on_a_page_is_still_there() -> None:
    """A mounted page is not launched: page.build sets these two attributes itself."""
    import gradio as gr

    launch = inspect.getsource(gr.Blocks.launch)
    assert "self.max_threads = " in launch
    assert "self.state_session_capacity = state_session_capacity" in launch
