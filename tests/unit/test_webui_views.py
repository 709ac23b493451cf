"""The pieces of the page: what others wrote is escaped, numbers are honest, images are what was seen."""

from __future__ import annotations

import ast
import base64
import inspect
import json
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

import vit_pipeline
from vit_pipeline import LabelScore, Prediction, ViTPipeline, errors
from vit_pipeline.checkpoints.processors import seen_image
from vit_pipeline.fetch import fetch
from vit_pipeline.images import read_image, to_data_url
from vit_pipeline.names import parse_name
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
        views.render("failed", "en", answer=failed),  # in Chinese, only what it has words for
        views.render("badge", lang, name=EVIL),
        views.render("api", lang, origin=EVIL),
        views.gallery([shown, failed | {"source": EVIL}], lang),
        views.render("header", lang, login=True) + views.gallery([shown], lang),
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
        "Among 10 classes · 75.0 points ahead tabby, tabby cat 75.0%",
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
    good = answer(demo, "@SUM(1)") | {"source": "=cmd|x"}
    del good["when"]
    page = views.gallery([good, bad], "zh")
    content = saved(page, "text/csv")
    assert content.startswith(b"\xef\xbb\xbf")
    lines = content.decode("utf-8-sig").splitlines()
    assert lines[0] == "source,label,score,index,model,error"
    assert lines[1].startswith("'=cmd|x,'@SUM(1),0.75,1,")
    assert lines[2] == "猫.png,,,,,'-no"
    first, second = json.loads(saved(page, "application/json"))
    assert (first["source"], first["label"], first["index"], first["error"]) == ("=cmd|x", "@SUM(1)", 1, None)
    assert (second["source"], second["label"], second["error"]) == ("猫.png", None, "-no")


def saved(page: str, kind: str) -> bytes:
    data = re.search(rf"data:{kind};base64,([^\"]+)", page)
    assert data is not None
    return base64.b64decode(data[1])


def test_a_gallery_says_how_many_there_will_be(demo: ViTPipeline) -> None:
    rows = [answer(demo, "cat"), {"problem": "ImageError", "detail": "x.png: broken", "source": "x.png"}]
    assert "1 of 40 images classified" in views.gallery(rows, "en", 40)
    assert "classified" not in views.gallery(rows, "en")
    assert views.gallery(rows, "en").count("x.png") == 1  # a bad file is named once
    assert "猫 (1)" in views.gallery(rows, "zh")
    assert views.gallery([], "en") == ""


def test_classes_have_chinese_names_where_there_are_some(demo: ViTPipeline) -> None:
    assert views.named("zh", *demo.labels) == "飞机、汽车、鸟、猫、鹿、狗、青蛙、马、船、卡车"
    assert views.named("en", *demo.labels) == ", ".join(demo.labels)
    assert views.named("zh", "tabby, tabby cat") == "tabby, tabby cat"
    page = views.render("answer", "zh", answer=answer(demo, "tabby"))
    assert "类别名是模型自带的英文" in page
    assert "类别名是模型自带的英文" not in views.render("answer", "zh", answer=answer(demo, "cat"))


URLS = "http://10.0.0.1/x.png", "ftp://a/b", "https://u:p@a.example/x", "https://a.example:22/", "http://a b/"


def test_every_detail_has_words_in_chinese(tmp_path: Path) -> None:
    """Of what visitors give: files that are no images, too large or broken ones, addresses."""
    found: list[errors.VitPipelineError] = []
    png = BytesIO()
    Image.new("RGB", (40, 30)).save(png, "PNG")
    contents = [b"", b"<html>", b"<svg>", b"%PDF", b"8BPS", b"PK", b"hello", b"\0\1\2", png.getvalue()[:60]]
    contents += [b"II*\0" + bytes(9), b"abcdftypheic" + bytes(9), b"abcdftypmp42" + bytes(9)]
    for content in contents:
        with pytest.raises(errors.ImageError) as caught:
            read_image(BytesIO(content))
        found.append(caught.value)
    for size, limit in (((40, 30), 1000), ((70_000, 1), 10**9)):
        wide = tmp_path / "wide.png"
        Image.new("1", size).save(wide)
        with pytest.raises(errors.ImageError) as caught:
            read_image(wide, max_pixels=limit)
        found.append(caught.value)
    for url in URLS:
        with pytest.raises(errors.FetchError) as refused:
            fetch(url)
        found.append(refused.value)
    for name in ("a b", "nobody", "https://example.com/x"):
        with pytest.raises(errors.ModelNameError) as unknown:
            parse_name(name)
        found.append(unknown.value)
    for error in found:
        chinese = views.detail("zh", views.failed(error))
        assert re.search(r"[\u4e00-\u9fff].*。$", chinese), error


def test_every_chinese_detail_is_of_a_line_that_the_library_has() -> None:
    package = Path(vit_pipeline.__file__).parent
    lines = [text for path in package.rglob("*.toml") for text in path.read_text("utf-8").splitlines()]
    lines = [re.sub(r"\{[^}]*\}", "7", line) for line in lines if line.startswith(("text", "message"))]
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "7" for p in node.values)
                lines.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines.append(node.value)
    assert [said for said in views.DETAILS if not any(re.search(said, line) for line in lines)] == []


def test_formats_that_only_files_here_may_have_are_no_advice_for_visitors() -> None:
    with pytest.raises(errors.ImageError) as caught:
        read_image(BytesIO(b"II*\0" + bytes(9)))
    assert "local" not in views.failed(caught.value)["detail"]


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
    assert sizes == {"given": (360, 180), "tiny": (96, 48), "seen": (32, 32)}


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


def test_what_build_does_for_gradio_is_still_needed() -> None:
    """A mounted page is not launched: page.build sets two attributes itself; and signatures, for sessions."""
    import gradio as gr

    launch = inspect.getsource(gr.Blocks.launch)
    assert "self.max_threads = " in launch
    assert "self.state_session_capacity = state_session_capacity" in launch
    assert "inspect.signature(cls.__init__)" in inspect.getsource(gr.blocks.Block.get_config)
