"""The pieces of the page: what others wrote is escaped, numbers are honest, images are what was seen."""

from __future__ import annotations

import base64
import os
import re
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_checkpoint

from vit_pipeline import LabelScore, Prediction, ViTPipeline
from vit_pipeline.webui import html
from vit_pipeline.webui.model_pool import Loaded
from vit_pipeline.webui.server import sweep
from vit_pipeline.webui.sessions import MAX_HISTORY, Sessions, Shown

EVIL = "<img src=x onerror=alert(1)>${alert(1)}'\""


def shown(label: str = EVIL) -> Shown:
    top = (LabelScore(label, 0.75, 1), LabelScore("other", 0.0001, 0))
    prediction = Prediction(label, 0.75, 1, top, source=EVIL, model=EVIL)
    seconds = {"read": 0.01, "preprocess": 0.002, "forward": 0.25, "postprocess": 0.0001}
    return Shown(prediction, seconds, 3, "data:,a", (640, 480), "data:,b", (32, 32), 4)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_others_wrote_is_escaped(lang: str, tmp_path: Path) -> None:
    pipe = ViTPipeline.from_pretrained(make_checkpoint(tmp_path), device="cpu")
    pipe.labels = (EVIL, *pipe.labels[1:])
    pieces = [
        html.answer(shown(), lang),  # type: ignore[arg-type]
        html.history([shown()], lang),  # type: ignore[arg-type]
        html.table([(EVIL, shown().prediction), (EVIL, EVIL)], lang),  # type: ignore[arg-type]
        html.card(Loaded(EVIL, pipe, 0.1), lang),  # type: ignore[arg-type]
        html.badge(Loaded(EVIL, pipe, 0.1), lang),  # type: ignore[arg-type]
        html.message(EVIL, EVIL),
        html.progress(EVIL, 1, 2),
        html.empty(EVIL),
    ]
    for piece in pieces:
        assert "<img src=x" not in piece
        assert "&lt;img src=x" in piece


def test_an_answer_says_all_there_is() -> None:
    text = re.sub(r"<[^>]+>", " ", html.answer(shown("tabby, tabby cat"), "en"))
    for part in ("Predicted class:  tabby, tabby cat", "75.0% sure", "<0.1%", "640×480 pixels", "250 ms"):
        assert part in text.replace("&lt;", "<")
    assert "8×8 patches of 4×4" in text
    assert "with 2 other waiting images" in text


@pytest.mark.parametrize(
    ("score", "text"), [(0, "0.0%"), (1, "100.0%"), (0.9999, ">99.9%"), (0.0004, "<0.1%"), (0.753, "75.3%")]
)
def test_percent(score: float, text: str) -> None:
    assert html.percent(score) == text


def test_cells_of_the_csv_are_no_formulas() -> None:
    page = html.table([("=cmd|x", shown("@SUM(1)").prediction), ("b.png", "-no")], "en")
    data = re.search(r"base64,([^\"]+)", page)
    assert data is not None
    lines = base64.b64decode(data[1]).decode("utf-8-sig").splitlines()
    assert lines[1].startswith("'=cmd|x,'@SUM(1),0.75,1,")
    assert lines[2] == "b.png,,,,,'-no"


def test_the_seen_image_is_what_the_model_saw() -> None:
    pipe = ViTPipeline.from_pretrained("demo", device="cpu")
    pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(pixels.numpy())
    seen = html.seen_image(pipe, pipe.preprocess(image))
    assert np.array_equal(np.asarray(seen), np.asarray(image))
    again = Image.open(BytesIO(base64.b64decode(html.data_url(seen).partition(",")[2])))
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_sessions_are_bounded() -> None:
    sessions = Sessions(limit=3)
    first = sessions.get("a")
    for _ in range(MAX_HISTORY + 5):
        first.history.append(shown())
    assert len(first.history) == MAX_HISTORY
    sessions.get("b")
    sessions.get("c")
    assert sessions.get("a") is first
    sessions.get("d")
    assert len(sessions) == 3
    assert sessions.get("a") is first


def test_old_uploads_are_deleted_and_the_oldest_of_too_many(tmp_path: Path) -> None:
    for number, age in enumerate((5000, 300, 200, 100)):
        path = tmp_path / str(number) / "image.png"
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - age,) * 2)
    sweep(tmp_path, age=1000, size=10**6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]
    sweep(tmp_path, age=1000, size=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
