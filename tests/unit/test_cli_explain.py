from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from conftest import Run
from PIL import Image

from vit_pipeline import ViTPipeline
from vit_pipeline.cli.explain import Method
from vit_pipeline.explain import METHODS

pytestmark = pytest.mark.slow

PHOTOS = Path(__file__).parents[2] / "examples"
CAT = PHOTOS / "cat.png"
DEMO = ("--model", "demo", "--device", "cpu")


def test_the_lens_and_the_evidence_in_the_terminal(run: Run) -> None:
    code, out, err = run("explain", CAT, "--faithfulness", *DEMO)
    assert code == 0, err
    e = ViTPipeline.from_pretrained("demo", device="cpu").explain(CAT)
    lines = out.splitlines()
    assert lines[0].startswith("Predicted class: cat ")
    start = lines.index("After each layer, as if the model ended there:") + 1
    table = [line.split() for line in lines[start : start + 7]]
    layers = [["embeddings"], *(["layer", str(number)] for number in range(6))]
    said = [[f"{at.score:.2%}", at.label] for at in e.lens]
    assert table == [layer + at for layer, at in zip(layers, said, strict=True)]
    assert lines[start + 7 :][:2] == [
        "Where the evidence for cat is (gradient-attention):",
        f"  {e.evidence()}",
    ]
    assert f"map {e.faithfulness().gain:+.2f}" in out


def test_options_reach_the_explanation(run: Run, tmp_path: Path) -> None:
    e = ViTPipeline.from_pretrained("demo", device="cpu").explain(CAT, "dog")
    path = tmp_path / "dog.json"
    code, out, err = run(
        "explain", CAT, "-o", path, "--target", "dog", "--method", "occlusion", "--quiet", *DEMO
    )
    assert (code, out, err) == (0, "", "")
    record = json.loads(path.read_text("utf-8"))
    assert (record["target"]["label"], record["prediction"]["label"]) == ("dog", "cat")
    np.testing.assert_allclose(record["heatmap"], e.heatmap("occlusion"), atol=1e-6)
    assert run("explain", CAT, "-o", tmp_path / "head.npz", "--layer", 2, "--head", 1, *DEMO)[0] == 0
    with np.load(tmp_path / "head.npz") as arrays:
        assert np.array_equal(arrays["heatmap"], e.attention(2, 1))


def test_several_images_make_a_folder_and_a_bad_one_stops_none(run: Run, tmp_path: Path) -> None:
    shutil.copy(CAT, tmp_path / "a b.png")
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    shutil.copy(PHOTOS / "rocket.jpg", tmp_path / "c.jpg")
    code, _, err = run("explain", tmp_path, "-o", tmp_path / "out.png", "--all-heads", "--lens", *DEMO)
    assert code == 1
    assert "bad.jpg" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0000-a_b.png", "0002-c.png"]
    (tmp_path / "file").touch()
    code, _, err = run("explain", CAT, CAT, "-o", tmp_path / "file.json", *DEMO)
    assert (code, "cannot be made a folder" in err) == (1, True)
    with Image.open(tmp_path / "out" / "0002-c.png") as figure:
        assert figure.height > figure.width / 2


def test_a_page(run: Run, tmp_path: Path) -> None:
    assert run("explain", CAT, "-o", tmp_path / "cat.html", "--method", "rollout", *DEMO)[0] == 0
    page = (tmp_path / "cat.html").read_text("utf-8")
    assert "Weak evidence" in page
    assert page.count("<img") == 3 + 18


@pytest.mark.long
def test_methods_measured_on_a_folder(run: Run, tmp_path: Path) -> None:
    for folder, photo in (
        ("cat", "cat.png"),
        ("ship", "boat.jpg"),
        ("frog", "parrots.jpg"),
        ("mine", "rocket.jpg"),
    ):
        (tmp_path / folder).mkdir()
        shutil.copy(PHOTOS / photo, tmp_path / folder)
    (tmp_path / "cat" / "bad.png").write_bytes(b"")
    code, out, err = run(
        "explain", "--evaluate", tmp_path, "--methods", "attention,gradient-attention", *DEMO
    )
    assert code == 1
    assert "bad.png" in err
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:5]}
    assert set(rows) == {"gradient-attention", "attention", "centre", "random"}
    assert all("±" in row for row in rows.values())
    assert "3 images" in out  # what is called a frog is none; nothing is known of "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "no image is named"),
        ([CAT, "-o", "cat.pdf"], 2, "must end in .png"),
        ([CAT, "--target", "unicorn"], 2, "no class is called 'unicorn'"),
        ([CAT, "--layer", "9"], 2, "there is no layer 9"),
        ([CAT, "--layer", "1", "--method", "rollout"], 2, "for method 'attention'"),
        ([CAT, "--method", "cam"], 2, "gradient-attention"),
        ([CAT, "--evaluate", "--methods", "cam"], 2, "no method is called 'cam'"),
        (["--evaluate", CAT], 2, "1 images"),
        (["gone.png"], 1, "gone.png"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run: Run, arguments: list[object], code: int, says: str) -> None:
    got, _, err = run("explain", *arguments, *DEMO)
    assert got == code
    assert says in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_the_methods_are_those_of_the_room() -> None:
    assert get_args(Method) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_weak_evidence_is_called_so(run: Run, method: str) -> None:
    code, out, _ = run("explain", CAT, *DEMO, "--method", method)
    assert code == 0
    assert ("Weak evidence" in out) == (method in ("attention", "rollout"))
