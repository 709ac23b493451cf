from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run
from tiny import make_checkpoint

PHOTOS = Path(__file__).parents[2] / "examples"


def test_predict_prints_the_tutorials_line_and_bars(run: Run) -> None:
    code, out, err = run("predict", PHOTOS / "cat.png", "--model", "demo", "--top-k", 3, "--device", "cpu")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("Predicted class: cat ")
    assert [line.split()[0] for line in lines[1:]] == ["cat", "dog", "frog"]
    assert lines[1].count("█") > 3 * lines[2].count("█") > 0
    assert err.splitlines() == [
        "demo (embedded), on cpu, float32; "
        "knows only: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
    ]


def test_json_lines_in_order_with_errors_in_place(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"text")
    code, out, _ = run(
        "predict",
        "--json",
        "--model",
        "demo",
        PHOTOS / "cat.png",
        tmp_path,
        tmp_path / "*.gif",
        PHOTOS / "rocket.jpg",
    )
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [record["source"] for record in records] == [
        str(PHOTOS / "cat.png"),
        str(tmp_path / "b.jpg"),
        str(tmp_path / "*.gif"),
        str(PHOTOS / "rocket.jpg"),
    ]
    assert [record.get("label") for record in records] == ["cat", None, None, "ship"]
    assert list(records[0]) == ["source", "model", "label", "score", "index", "top"]
    assert list(records[0]["top"][0]) == ["label", "score", "index"]
    assert records[1]["error"]["type"] == "ImageError"
    assert "no file matches" in records[2]["error"]["message"]


def test_stdin_and_folders(run: Run) -> None:
    code, out, _ = run("predict", "-", "--json", "--model", "demo", stdin=(PHOTOS / "cat.png").read_bytes())
    assert (code, json.loads(out)["source"], json.loads(out)["label"]) == (0, "<stdin>", "cat")
    code, out, _ = run("predict", PHOTOS, "--json", "--model", "demo")
    assert (code, len(out.splitlines())) == (0, 7)
    code, out, err = run("predict", "-", "--model", "demo", stdin=b"")
    assert (code, out) == (1, "")
    assert "error:" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["predict", "x.png", "--model", "vit-bas"], 1, "use vit-base, vit-small, demo"),
        (["predict", "x.png", "--model", "demo"], 1, "x.png"),
        (["predict", "x.png", "--model", "demo", "--device", "gpu"], 1, "means nothing to torch"),
        (["predict", "x.png", "--model", "demo", "--dtype", "int4"], 1, "float32, bfloat16, auto"),
        (["predict"], 2, "image"),
        (["predict", "x.png", "--top-k", "0"], 2, "--top-k"),
        (["predict", "x.png", "--no-such-option"], 2, "no-such-option"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_errors_are_short_and_have_their_exit_code(
    run: Run, arguments: list[str], code: int, says: str
) -> None:
    actual, out, err = run(*arguments)
    assert actual == code
    assert out == ""
    assert says.lower() in err.lower()
    assert "Traceback" not in err
    if code == 1:
        assert err.splitlines()[-1].startswith("error: ")


def test_models_and_download(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    code, out, _ = run("models")
    assert code == 0
    assert "demo" in out
    assert "knows only 10 classes" in out
    assert out.count("not downloaded") == 2
    code, out, _ = run("models", "--json")
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert rows["vit-base"]["source"] == "ModelScope AI-ModelScope/vit-base-patch16-224"
    assert (rows["vit-base"]["cached"], rows["demo"]["cached"]) == (False, True)
    folder = make_checkpoint(tmp_path / "tiny")
    assert run("download", folder)[:2] == (0, f"{folder}\n")


def test_an_unforeseen_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("1 / 0")

    monkeypatch.setattr("vit_pipeline.cli.predict.open_pipeline", fail)
    monkeypatch.delenv("VIT_PIPELINE_DEBUG", raising=False)
    code, _, err = run("predict", "x.png")
    assert code == 1
    assert err.startswith("internal error: ")
    assert len(err.splitlines()) == 1


HEAVY = ["torch", "transformers", "modelscope", "PIL", "gradio", "numpy", "requests"]


@pytest.mark.parametrize("statement", ["import vit_pipeline", "import vit_pipeline.cli"])
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str) -> None:
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_python_dash_m_is_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vit_pipeline", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("vit-pipeline ")
    done = subprocess.run(
        [sys.executable, "-m", "vit_pipeline", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("predict", "download", "models"):
        assert command in done.stdout
