from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from conftest import Run
from hub_server import HubServer
from rich.cells import cell_len
from tiny import change_json, make_checkpoint

PHOTO = Path(__file__).parents[2] / "examples" / "cat.png"


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def test_vit_base_offline_before_anything_is_downloaded(hub: HubServer, run: Run) -> None:
    code, out, err = run("structure")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert "86,567,656" in out
    assert "× 12" in out
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ["markdown", "html", "json"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_formats_and_languages(run: Run, form: str, lang: str) -> None:
    code, out, _ = run(
        "structure", "--model", "demo", "--format", form, "--lang", lang, "--order", "execution"
    )
    assert code == 0
    assert "projection" in out
    assert any("\u4e00" <= character <= "\u9fff" for character in out) == (lang == "zh")
    if form == "json":
        assert json.loads(out)["params"] == 2_693_578


@pytest.mark.slow
def test_columns_and_plain_terminals(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = run("structure", "--model", "demo")[1]
    monkeypatch.setenv("COLUMNS", "60")
    narrow = run("structure", "--model", "demo")[1]
    assert 60 < max(map(cell_len, wide.splitlines())) <= 100
    assert max(map(cell_len, narrow.splitlines())) <= 60
    assert "\x1b" not in wide + narrow
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert run("structure", "--model", "demo")[0] == 0
    sys.stdout.flush()
    written = sys.stdout.buffer.getvalue()  # type: ignore[attr-defined]
    assert b"embeddings" in written
    assert b"\\u" not in written


@pytest.mark.slow
def test_depth_layers_image_and_compare(run: Run) -> None:
    short = run("structure", "--model", "demo", "--depth", "1")[1]
    full = run("structure", "--model", "demo", "--all-layers")[1]
    assert len(short.splitlines()) < 20 < 100 < len(full.splitlines())
    code, out, err = run("structure", "--model", "demo", "--image", PHOTO, "--device", "cpu")
    assert code == 0
    assert "vit.layers.5 + residual" in out
    assert err.startswith("demo (embedded), on cpu")
    code, out, _ = run("structure", "--model", "vit-base", "--compare", "vit-small")
    assert code == 0
    assert "86,567,656" in out
    assert "22,050,664" in out


def test_what_cannot_be_shown_is_one_line(run: Run, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    change_json(folder / "config.json", num_hidden_layers=3000)
    for arguments, code, says in (
        (["--model", folder], 1, "num_hidden_layers 3000; allowed: 1 to 128"),
        (["--model", "demo", "--image", tmp_path / "gone.png"], 1, "gone.png"),
        (["--model", "demo", "--image", PHOTO, "--compare", "vit-base"], 2, "leave --image out"),
        (["--lang", "fr"], 2, "--lang"),
        (["--depth", "-1"], 2, "--depth"),
    ):
        actual, out, err = run("structure", *arguments)
        assert (actual, out) == (code, "")
        assert says in err
        assert "Traceback" not in err
