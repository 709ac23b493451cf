"""What stands in an extra and is missing: one line that says what to type, before any work is done."""

from __future__ import annotations

import re
import sys
from importlib import util
from pathlib import Path

import pytest
from conftest import Run

from vit_pipeline.errors import check_installed

CAT = Path(__file__).parents[2] / "examples" / "cat.png"


@pytest.fixture(autouse=True)
def slim(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``pip install .``: no package of any extra."""
    missing = ("pyarrow", "gradio", "matplotlib", "captum", "openvino", "nncf", "onnx", "onnxscript")
    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name in missing else find_spec(name))
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails


@pytest.mark.parametrize("command", ["classify", "features"])
def test_parquet_without_pyarrow(run: Run, tmp_path: Path, command: str) -> None:
    code, out, err = run(command, CAT, "-o", tmp_path / "r.parquet", "--model", "demo")
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert re.search(r"error: .*r\.parquet needs pyarrow.* pip install 'pyarrow", last)
    assert list(tmp_path.iterdir()) == []


def test_the_webui_without_gradio(run: Run) -> None:
    code, _, err = run("webui", "--port", 0)
    assert code == 2
    assert re.search(r"error: the WebUI needs gradio.* pip install 'gradio", err.splitlines()[-1])


def test_speed_without_openvino(run: Run, tmp_path: Path) -> None:
    """Asked for, it is missing; --fast takes what is there."""
    code, out, err = run("predict", CAT, "--model", "demo", "--backend", "openvino")
    assert (code, out) == (2, "")
    assert re.search(r"error: the backend 'openvino' needs openvino.* pip install 'openvino", err)
    code, out, err = run("predict", CAT, "--model", "demo", "--fast")
    assert code == 0
    assert "Predicted class: cat" in out
    assert re.search(r"fastest on a CPU needs openvino.* pip install 'openvino", err)
    for target in ("openvino", "onnx"):
        code, _, err = run("convert", "demo", tmp_path / target, "--to", target)
        assert code == 2
        assert re.search(r"error: .* needs (openvino|onnx).* pip install '(openvino|onnx)", err)
        assert not (tmp_path / target).exists()


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_what_needs_no_extra(run: Run, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"r.{suffix}"
    assert run("classify", CAT, "-o", output, "--model", "demo")[0] == 0
    assert "cat" in output.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "package"),
    [
        (["-o", "x.png"], "matplotlib"),
        (["-o", "x.html"], "matplotlib"),
        (["--method", "occlusion"], "captum"),
    ],
)
def test_explain_without_its_extra(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], package: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("explain", CAT, "--model", "demo", *options)
    assert code == 2
    assert re.search(rf"error: .* needs {package}.* pip install '{package}", err.splitlines()[-1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_explain_in_the_terminal_needs_no_extra(run: Run, tmp_path: Path) -> None:
    assert run("explain", CAT, "--model", "demo", "-o", tmp_path / "cat.json")[0] == 0
    code, out, _ = run("explain", CAT, "--model", "demo")
    assert code == 0
    assert "the evidence for cat" in out


def test_nothing_is_missing() -> None:
    check_installed("torch", "predict")
