from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run
from tiny import make_checkpoint

from vit_pipeline import ViTPipeline
from vit_pipeline.cli import COMMANDS

PHOTOS = Path(__file__).parents[2] / "examples"


def test_predict_prints_the_tutorials_line_and_bars(run: Run) -> None:
    code, out, err = run("predict", PHOTOS / "cat.png", "--model", "demo", "--top-k", 3, "--device", "cpu")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("Predicted class: cat ")
    assert "of 10 classes" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["cat", "dog", "frog"]
    assert lines[1].count("█") > 3 * lines[2].count("█") > 0
    assert err.splitlines() == [
        "demo (embedded), on cpu, float32; "
        "10 classes: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
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
    assert list(records[0]) == ["source", "model", "label", "score", "index", "top", "calibrated", "unlike"]
    assert list(records[0]["top"][0]) == ["label", "score", "index"]
    assert records[1]["error"]["type"] == "ImageError"
    assert "no file matches" in records[2]["error"]["message"]


def test_stdin_and_folders(run: Run) -> None:
    code, out, _ = run("predict", "-", "--json", "--model", "demo", stdin=(PHOTOS / "cat.png").read_bytes())
    assert (code, json.loads(out)["source"], json.loads(out)["label"]) == (0, "<stdin>", "cat")
    code, out, _ = run("predict", PHOTOS, "--json", "--model", "demo")
    assert (code, len(out.splitlines())) == (0, len([*PHOTOS.glob("*.[pj][np]g")]))
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


@pytest.mark.slow
def test_doctor_says_what_is_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        (tmp_path / "weights").write_bytes(bytes(1000))
        code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["versions"]["torch"] == torch.__version__
    assert found["devices"]["cpu"]["cores"] >= 1
    assert found["caches"]["ModelScope"] == {"folder": str(tmp_path), "bytes": 1000}
    assert found["extras"]["bulk"] == {"installed": True, "pyarrow": True}
    assert found["hub"]["ModelScope"]["answers"] is False
    code, out, _ = run("doctor")
    assert code == 0
    assert f"folder {tmp_path}, bytes 1,000" in out


@pytest.mark.slow
def test_bars_fit_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    arguments = ["predict", "-m", "demo", "-k", "2", str(PHOTOS / "cat.png"), "-q"]
    code, out, _ = run(*arguments)
    assert code == 0
    done = subprocess.run(
        [sys.executable, "-m", "vit_pipeline", *arguments],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    for printed, bar in ((out, "█"), (done.stdout.decode("ascii"), "#")):
        lines = printed.splitlines()[1:]
        assert len(lines) == 2
        assert all(bar in line and len(line) <= 40 and "\\" not in line for line in lines)


def test_every_command_has_an_example(run: Run) -> None:
    for command in COMMANDS:
        assert f"Example: vit-pipeline {command.__name__}" in " ".join(
            run(command.__name__, "--help")[1].split()
        )


def test_an_unforeseen_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("1 / 0")

    monkeypatch.setattr("vit_pipeline.cli.options.open_pipeline", fail)
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


@pytest.mark.slow
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


INTERRUPTER = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "at",
    ["vit_pipeline.cli", "torch._C", "transformers"]
    + [pytest.param(name, marks=pytest.mark.long) for name in ("numpy", "torch", "PIL.Image")],
)
def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path: Path, at: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTER)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "vit_pipeline", "predict", "-m", "demo", PHOTOS / "cat.png"],
        env=os.environ | {"PYTHONPATH": path, "INTERRUPT_AT": at},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_at_work_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(ViTPipeline, "read", interrupted)
    monkeypatch.setattr(os, "_exit", leave)
    code, out, err = run("predict", "-m", "demo", "-q", PHOTOS / "cat.png")
    assert (code, out, err) == (130, "", "interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "classify", "features", "similar"])
def test_arguments_that_name_images_mean_the_same_everywhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Files, folders, globs, a list; '-' the bytes of one image; --from-file - a list on stdin."""
    output = tmp_path / {"classify": "o.jsonl", "features": "o.npz"}.get(command, "none")
    extra = {"predict": ["--json"], "similar": ["--json", "-k", 99]}.get(command, ["-o", output])
    first = [PHOTOS / "coffee.png"] if command == "similar" else []

    def sources(*arguments: object, stdin: bytes) -> list[str]:
        output.unlink(missing_ok=True)
        code, out, err = run(command, *first, *arguments, *extra, "-m", "demo", "-q", stdin=stdin)
        assert code == 0, err
        if command == "features":
            with np.load(output) as table:
                found = table["source"].tolist()
        else:
            lines = (output.read_text() if command == "classify" else out).splitlines()
            found = [json.loads(line)["source"] for line in lines[command == "classify" :]]
        return sorted(Path(source).name for source in found)

    cat, rocket = PHOTOS / "cat.png", PHOTOS / "rocket.jpg"
    (tmp_path / "list.txt").write_text(f"{rocket}\n")
    (tmp_path / "folder").mkdir()
    shutil.copy(cat, tmp_path / "folder" / "in.png")
    named = [tmp_path / "list.txt", "-", tmp_path / "folder", PHOTOS / "c*t.png"]
    assert sources(*named, stdin=cat.read_bytes()) == ["<stdin>", "cat.png", "in.png", "rocket.jpg"]
    assert sources(cat, "--from-file", "-", stdin=f"{rocket}\n".encode()) == ["cat.png", "rocket.jpg"]
    assert sources("--from-file", tmp_path / "list.txt", stdin=b"") == ["rocket.jpg"]
    assert run(command, *first, *extra, "-m", "demo")[0] == 2
    assert run(command, *first, "-", "--from-file", "-", *extra, "-m", "demo", stdin=b"")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["features", "classify"])
def test_a_failed_run_leaves_no_output(run: Run, tmp_path: Path, command: str) -> None:
    suffix = {"features": ".npz", "classify": ".jsonl"}[command]
    code, *_ = run(command, PHOTOS, "-o", tmp_path / f"o{suffix}", "-m", tmp_path / "no-model")
    assert code == 1
    assert list(tmp_path.iterdir()) == []
    if command == "features":
        assert run(command, tmp_path / "gone.png", "-o", tmp_path / "o.npz", "-m", "demo")[0] == 1
        assert list(tmp_path.iterdir()) == []


def test_predict_and_classify_agree_by_default(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "o.jsonl"
    _, out, _ = run("predict", PHOTOS, "--json", "-m", "demo")
    assert run("classify", PHOTOS, "-o", output, "-m", "demo")[0] == 0
    ours = [json.loads(line)["score"] for line in out.splitlines()]
    theirs = [json.loads(line)["score"] for line in output.read_text().splitlines()[1:]]
    assert ours == pytest.approx(theirs, abs=2e-6)
    assert json.loads(output.read_text().splitlines()[0])["vit_pipeline"]["dtype"] == "float32"
