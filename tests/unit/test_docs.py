"""What the code says about itself: docstrings and CONTRIBUTING.md name modules that exist; the public names.

A name in double backquotes in a module's docstring is taken for a module of ours where it is lower case and
stands in parentheses, alone or with others like it, or after "Leaves out" in that paragraph; and wherever it
ends in .py.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import vit_pipeline

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vit_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def modules_named_in(text: str) -> set[str]:
    groups = re.findall(r"\(((?:``[\w.]+``(?:,\s|\sand\s)?)+)\)", text)
    left_out = [piece.partition("\n\n")[0] for piece in text.split("Leaves out")[1:]]
    names = re.findall(r"``([a-z_]+(?:\.py|\.css|\.js)?)``", " ".join([*groups, *left_out]))
    return {*names, *re.findall(r"``(\w+\.py)``", text)}


def modules_in(folder: Path) -> set[str]:
    """The files and packages of a folder, with and without the ending."""
    return {name for path in folder.iterdir() for name in (path.name, path.stem)}


def test_the_rule() -> None:
    text = "Reads (``images``, ``urls.py``) by ``predict``, ``folder.py``, (``HOME``, 60 s), (``x`` or so)."
    assert modules_named_in(text) == {"images", "urls.py", "folder.py"}
    assert modules_named_in("By ``top``. Leaves out: ``hub``, ``ViTConfig``, a (``a.b``).\n\nNot ``d``.") == {
        "hub"
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_docstring_names_modules_that_exist(path: Path) -> None:
    text = docstring(path)
    assert text, "every module says what it is for"
    assert modules_named_in(text) <= modules_in(path.parent) | modules_in(PACKAGE)


def test_the_public_names() -> None:
    assert vit_pipeline.__all__ == [
        "ArgumentError",
        "CheckpointError",
        "DeviceError",
        "DownloadError",
        "FetchError",
        "ImageError",
        "ModelError",
        "ModelNameError",
        "OutputError",
        "UnsafeURLError",
        "VitPipelineError",
        "classify",
        "Evaluation",
        "evaluate",
        "Exploration",
        "explore",
        "similar",
        "LabelScore",
        "Prediction",
        "ViTPipeline",
        "predict",
        "ModelStructure",
        "compare",
        "describe",
        "Finetuned",
        "finetune",
    ]
    for name in vit_pipeline.__all__:
        assert getattr(vit_pipeline, name).__doc__, name


def test_contributings_map_is_the_package() -> None:
    """Each module and package of the top level stands in the map, and nothing else does."""
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where to look")[2]
    named = set(re.findall(r"\]\(vit_pipeline/(\w+(?:\.py|/))\)", table.partition("\n## ")[0]))
    there = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    there |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert named == there
