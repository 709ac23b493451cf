"""What the READMEs show is what the commands print, and their Python runs.

This is the quick check, in this process; ``scripts/run_readme.py`` types every line into a shell.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Run

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "run_readme.py"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
each = pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_readme", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_readme"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


run_readme = load_script()


def steps(path: Path) -> list:  # type: ignore[type-arg]
    return run_readme.read_steps(path.read_text(encoding="utf-8"))


@pytest.mark.slow
@each
def test_transcripts(path: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = [step for step in steps(path) if step.shown]
    assert len(shown) >= 3
    for number, step in enumerate(shown):
        program, *arguments = shlex.split(step.text)
        assert program == "vit-pipeline"
        code, out, _ = run(*arguments)
        assert code == 0
        (tmp_path / str(number)).write_text(out, encoding="utf-8")
    assert run_readme.differences(shown, tmp_path) == []


@pytest.mark.slow
@each
def test_python(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = [step.text for step in steps(path) if step.language == "python" and not step.not_run]
    for block in blocks:
        exec(compile(block, str(path), "exec"), {})
    assert blocks


@each
def test_every_block_is_run_or_says_why_not(path: Path) -> None:
    """No other kind of block; each has a line that is run, or a reason, right above it."""
    text = path.read_text(encoding="utf-8")
    fences = re.findall(r"^```(.*)$", text, re.MULTILINE)
    assert set(fences[::2]) == {"console", "python"}
    assert set(fences[1::2]) == {""}
    not_run = re.findall(r"^<!-- not run: \w.* -->\n```", text, re.MULTILINE)
    assert len(not_run) == text.count("not run:")
    found = steps(path)
    assert all(step.text.strip() for step in found)
    assert found[0].text == "make demo"
    assert len([step for step in found if not step.not_run]) >= 10


def test_both_languages_show_the_same_commands_and_code() -> None:
    """Comments, outputs and the choice of language aside."""

    def code(path: Path) -> list[tuple[str, str]]:
        return [
            (
                re.sub(
                    r"( --lang zh|(?<=notebooks/)(en|zh)(?=/))|  +#.*$", "", step.text, flags=re.MULTILINE
                ),
                step.not_run,
            )
            for step in steps(path)
        ]

    assert code(READMES[0]) == code(READMES[1])


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (
            "$ export WORD=hello\n$ echo $WORD\nhello\n",
            0,
            "2 steps ran, 0 were seen before, 1 are marked as not run",
        ),
        ("$ echo hello\ngoodbye\n", 1, "-goodbye\n+hello"),
        ("$ true\n$ echo before; sh -c 'exit 7'\n$ echo after\n", 7, "exit code 7 from: echo before"),
        ("$ cat; echo $VIRTUAL_ENV\n\n", 0, "1 steps ran"),
        ("$ export X=1\n$ echo $X\n1\n", 0, "README.zh-CN.md: 1 steps ran, 1 were seen before, 1 are"),
    ],
)
def test_the_script_finds_what_is_wrong(tmp_path: Path, body: str, code: int, says: str) -> None:
    text = f"Words\n\n```console\n{body}```\n\n<!-- not run: a reason -->\n```console\n$ false\n```\n"
    for path in READMES:
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", tmp_path]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "a"], check=True)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--repository", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    assert "after" not in done.stdout


@pytest.mark.parametrize(
    "path", [*READMES, ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    targets += re.findall(r"`((?:tests|scripts|docs|benchmarks|vit_pipeline)/[\w/]+(?:\.\w+)?)`", text)
    for target in targets:
        if path.name == "CONTRIBUTING.md" and target.startswith("vit_pipeline/"):
            continue  # the map, see test_docs.py
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("folder", ["", "docs", "notebooks", "vit_pipeline"])
def test_nothing_is_installed_by_a_name_that_is_not_ours(folder: str) -> None:
    """On the package index, whoever takes the name vit-pipeline would run code on our users' machines."""
    by_name = re.compile(r"install[^\n]{0,40}[\s\"'](vit-pipeline|vit_pipeline)(\[|[\"'\s]*$)", re.MULTILINE)
    endings = {".py", ".md", ".ipynb", ".toml", ".js", ".html"}
    paths = (ROOT / folder).rglob("*") if folder else ROOT.glob("*")
    for path in paths:
        if path.suffix in endings:
            text = path.read_text(encoding="utf-8")
            assert not by_name.search(text), path
