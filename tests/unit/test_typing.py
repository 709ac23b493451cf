"""A user's script under strict mypy: mistakes are found, and nothing else is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from vit_pipeline import ImageError, Prediction, ViTPipeline, VitPipelineError, describe, predict


def main() -> None:
    print(predict("cat.jpg").label, predict(["a.jpg"], model="demo", device="cpu")[0].score)
    pipe = ViTPipeline.from_pretrained("demo", dtype="bfloat16", max_pixels=10, cache_dir="copies")
    one: Prediction = pipe("cat.jpg")
    print(one.top[0].index, one.to_hf(), one.to_dict())
    for result in pipe.stream(["a.jpg"], threads=2):
        print(str(result) if isinstance(result, VitPipelineError) else result.label)
    pipe.stream(["a.jpg"], treads=2)
    predict("cat.jpg", modle="demo")
    ViTPipeline.from_pretrained("demo", max_pixel=10)
    try:
        print(pipe.postprocess(pipe.forward(pipe.preprocess(pipe.read("x.jpg"))))[0].lable)
    except ImageError as error:
        print(error)
    print(pipe.features("a.jpg"), describe("vit-base", lang="zh").params)
"""
MISSPELT = "treads|modle|max_pixel=|lable"
CONFIG = """
[mypy]
strict = True
follow_imports = silent
[mypy-torch.*,transformers.*,numpy.*,PIL.*,rich.*,jinja2.*]
follow_imports = skip
"""


@pytest.mark.long
def test_mypy_finds_what_is_misspelt(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", "script.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(Path(__file__).parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [number for number, line in enumerate(SCRIPT.splitlines(), 1) if re.search(MISSPELT, line)]
    assert len(wrong) == 4
    found = re.findall(r"script\.py:(\d+): error: ", done.stdout)
    assert sorted(set(map(int, found))) == wrong, done.stdout + done.stderr
