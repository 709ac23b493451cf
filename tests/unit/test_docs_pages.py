"""The site's pages: their blocks run and print what is shown, and both languages say the same.

A page's blocks run in order, in one copy of ``examples/`` and one Python namespace: ``vit-pipeline`` in this
process, other commands in a shell. A ``text`` block right below one of Python is what that prints.
``UPDATE_GOLDEN=1`` writes what is printed into the pages, of both languages. ``make docs`` builds the site.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Run

import vit_pipeline

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS / "en") for path in (DOCS / "en").rglob("*.md"))
TRANSLATED = [page for page in PAGES if page.parts[0] != "reference"]
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```\n"
    r"(?:\n```text\n(?P<shown>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Step:
    text: str  #: a command, or a block of Python
    shown: str  #: what the page says that it prints
    kind: str
    why: str | None  #: not run


def steps(path: Path) -> list[Step]:
    found = []
    for block in _BLOCK.finditer(path.read_text(encoding="utf-8")):
        why, kind, body, shown = (block[name] for name in ("why", "kind", "body", "shown"))
        if kind == "python":
            found.append(Step(body, shown or "", kind, why))
        elif kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                found.append(Step(command, printed, kind, why))
    return found


RUNNING = [page for page in PAGES if any(step.why is None for step in steps(DOCS / "en" / page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=str)
def test_what_a_page_shows(page: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for step in steps(DOCS / "en" / page):
        if step.why is not None:
            continue
        program, *arguments = shlex.split(step.text, comments=True) if step.kind == "console" else ["python"]
        if program == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(step.text, str(page), "exec"), namespace)
            printed = out.getvalue()
        elif program == "vit-pipeline":
            code, printed, said = run(*arguments)
            if "error:" in step.shown or code:
                printed += "".join(
                    line for line in said.splitlines(keepends=True) if line.startswith("error:")
                )
                assert "error:" in step.shown, said
        elif program == "export":
            monkeypatch.setenv(*arguments[0].split("=", 1))
            continue
        else:
            printed = subprocess.run(
                ["bash", "-ec", step.text], check=True, capture_output=True, text=True
            ).stdout
        printed = printed.replace(str(tmp_path), "/home/you")
        if step.shown and os.environ.get("UPDATE_GOLDEN"):
            update(page, step, printed)
        elif step.shown:
            assert_same(printed, step.shown, step.text)


def assert_same(printed: str, shown: str, command: str) -> None:
    """But for what machines differ in: speed, the version of transformers, the sixth digit of a score."""
    other = r"[\d.,]+ images/s|transformers \d+\.\d+\.\d+"
    now, then = (re.sub(other, "…", text).strip("\n") for text in (printed, shown))
    score = r"\b\d\.\d{6}\b"
    assert re.sub(score, "#", now) == re.sub(score, "#", then), command
    scores = ([*map(float, re.findall(score, text))] for text in (now, then))
    assert next(scores) == pytest.approx(next(scores), abs=2e-6), command


def update(page: Path, step: Step, printed: str) -> None:
    between, after = ("```\n\n```text\n", "```") if step.kind == "python" else ("\n", "")
    for lang in ("en", "zh"):
        path = DOCS / lang / page
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for own in (each for each in (steps(path) if text else ()) if plain(each) == plain(step)):
            old, new = (
                f"{own.text}{between}{shown}{after}" for shown in (own.shown, printed.strip("\n") + "\n")
            )
            text = text.replace(old, new)
        if text:
            path.write_text(text, encoding="utf-8")


def plain(step: Step) -> tuple[str, str, str | None]:
    """Comments and the course's language aside."""
    text = re.sub(r"(^|  +)#.*$|(?<=notebooks/)(en|zh)(?=/)", "", step.text, flags=re.MULTILINE)
    return text.rstrip(), step.kind, step.why


@pytest.mark.parametrize("page", TRANSLATED, ids=str)
def test_both_languages_show_the_same(page: Path) -> None:
    english, chinese = (steps(DOCS / lang / page) for lang in ("en", "zh"))
    assert [*map(plain, english)] == [*map(plain, chinese)]
    assert [step.shown for step in english] == [step.shown for step in chinese]


def test_the_same_pages_are_there() -> None:
    """The reference is in English only; in Chinese there is a page that leads there."""
    chinese = sorted(path.relative_to(DOCS / "zh") for path in (DOCS / "zh").rglob("*.md"))
    assert [page for page in chinese if page.parts[0] != "reference"] == TRANSLATED


@pytest.mark.parametrize("path", sorted(DOCS.glob("*/**/*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_every_block_runs_or_says_why_not(path: Path) -> None:
    """Besides commands and Python there is only what is printed, and what Sphinx puts in, ``{…}``."""
    text = path.read_text(encoding="utf-8")
    fences = [fence for fence in re.findall(r"^```(.*)$", text, re.MULTILINE) if not fence.startswith("{")]
    assert {*fences} <= {"console", "python", "text", ""}
    not_run = re.findall(r"^<!-- not run: \w.* -->\n```", text, re.MULTILINE)
    assert len(not_run) == text.count("not run:")
    assert all(step.text.strip() for step in steps(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    sorted(path for path in (ROOT / "vit_pipeline").rglob("*.py") if ">>>" in path.read_text("utf-8")),
    ids=lambda path: path.stem,
)
def test_the_examples_of_the_reference(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in docstrings, as if after ``from vit_pipeline import ViTPipeline``."""
    monkeypatch.chdir(ROOT)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(
        importlib.import_module(name), extraglobs={"ViTPipeline": vit_pipeline.ViTPipeline}
    )
    assert found.attempted
    assert not found.failed


def test_the_environment_is_described() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "vit_pipeline").rglob("*.py"))
    page = (DOCS / "en/reference/environment.md").read_text(encoding="utf-8")
    for name in {*re.findall(r"VIT_PIPELINE_[A-Z_]+|MODELSCOPE_[A-Z_]+", code)}:
        assert f"`{name}`" in page, name


def test_the_check_of_the_finished_pages_finds_what_is_wrong(tmp_path: Path) -> None:
    page = '<p id="here"><a href="#here">a</a><a href="#gone">b</a><a href="gone.html">c</a>'
    for name, text in {
        "index.html": '<script src="https://example.com/a.js"></script><a href="https://example.com">d</a>',
        "en/index.html": page,
        "zh/index.html": '<a href="../en/index.html#here">e</a><img src="//example.com/a.png">',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    problems = runpy.run_path(str(ROOT / "scripts" / "build_docs.py"))["problems"]
    assert sorted(problems(tmp_path)) == [
        "en/index.html: no such anchor, #gone",
        "en/index.html: nothing is at gone.html",
        "index.html loads https://example.com/a.js",
        "zh/index.html loads //example.com/a.png",
    ]
