"""What the READMEs show is what the commands print, and their Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import Run

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def transcripts(path: Path) -> list[tuple[str, str]]:
    """(command, what it prints) of every vit-pipeline command that is shown with its output."""
    found = []
    for block in blocks(path, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            if command.startswith("vit-pipeline ") and output.strip():
                found.append((command, output))
    return found


def without_version(text: str) -> str:
    return re.sub(r"transformers \d+\.\d+\.\d+", "transformers", text)


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_transcripts(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = transcripts(path)
    assert len(shown) >= 2
    for command, output in shown:
        code, out, _ = run(*shlex.split(command)[1:])
        assert code == 0
        assert without_version(out) == without_version(output), command


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_python(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ran = 0
    for block in blocks(path, "python"):
        if "https://" not in block:
            exec(compile(block, str(path), "exec"), {})
            ran += 1
    assert ran > 0


def test_both_languages_show_the_same_commands_and_code() -> None:
    """Comments, outputs and the choice of language aside."""

    def code(path: Path) -> list[str]:
        console = [
            line for block in blocks(path, "console") for line in block.splitlines() if line[:2] == "$ "
        ]
        python = [line for block in blocks(path, "python") for line in block.splitlines()]
        lines = [re.sub(r"( --lang zh|_zh(?=\.ipynb))|  +#.*$", "", line) for line in console + python]
        return [line.rstrip() for line in lines]

    assert code(READMES[0]) == code(READMES[1])


@pytest.mark.parametrize("path", [*READMES, ROOT / "SECURITY.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text) + re.findall(r"`(tests/[\w/]+\.py)`", text)
    for target in targets:
        assert (path.parent / target).exists(), target
