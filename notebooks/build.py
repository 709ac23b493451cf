"""Build both notebooks and execute them: ``make notebooks``.

``cells.py`` has the code, once; ``prose_en.md`` and ``prose_zh.md`` have the words, and say with ``{{name}}``
where each code cell stands. A heading begins a new Markdown cell. The only line of code that differs between
the two is ``LANG``. Both are executed without a hub: the saved outputs are the same wherever they are made.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  (builds its cache here, not with a message in a notebook)
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
NOTEBOOKS = {"en": HERE / "vit_tutorial.ipynb", "zh": HERE / "vit_tutorial_zh.ipynb"}
DIAGRAMS = {"en": HERE / "images" / "vit.png", "zh": HERE / "images" / "vit_zh.png"}
# collapsed in Jupyter and VS Code, and on hosted notebooks that know "cellView"
COLLAPSED = {"jupyter": {"source_hidden": True}, "cellView": "form"}


def code_cells(lang: str) -> dict[str, NotebookNode]:
    """Name → cell, in the order of ``cells.py``."""
    cells = {}
    for part in re.split(r"^# %% ", (HERE / "cells.py").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, source = part.partition("\n")
        name, _, mark = heading.partition(" ")
        if name == "parameters":
            source = source.replace('LANG = "en"', f'LANG = "{lang}"')
        cell = new_code_cell(source.strip(), id=name.replace("_", "-"))
        if mark == "[hidden]":
            cell.metadata.update(COLLAPSED)
        if name == "parameters":
            cell.metadata["tags"] = ["parameters"]
        cells[name] = cell
    return cells


def compose(lang: str) -> NotebookNode:
    """One notebook, not executed."""
    codes = code_cells(lang)
    cells: list[NotebookNode] = []

    def add_prose(text: str) -> None:
        for piece in re.split(r"\n(?=#{1,3} )", text.strip()):
            if piece.strip():
                cells.append(new_markdown_cell(joined(piece.strip()), id=f"text-{len(cells)}"))

    prose = (HERE / f"prose_{lang}.md").read_text(encoding="utf-8")
    prose = re.sub(r"\{\{diagram: (.*)\}\}", lambda match: image(DIAGRAMS[lang], match[1]), prose)
    for number, part in enumerate(re.split(r"^\{\{(\w+)\}\}$", prose, flags=re.MULTILINE)):
        if number % 2:
            cells.append(codes.pop(part))
        else:
            add_prose(part)
    if codes:
        raise SystemExit(f"prose_{lang}.md leaves out {', '.join(codes)}")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def image(path: Path, text: str) -> str:
    """An image inside the Markdown: it shows wherever the notebook alone is opened."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"


def joined(text: str) -> str:
    """Chinese lines joined without the space that a line break becomes."""
    wide = r"[\u2014-\u201d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
    return re.sub(rf"(?<={wide})\n(?=[^\n\-|#])|(?<=[^\n|])\n(?={wide})", "", text)


def execute(notebook: NotebookNode, folder: Path = HERE) -> NotebookNode:
    """Run all cells in ``folder``; the first error ends it."""
    NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        timeout=300,  # seconds a cell
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    notebook.metadata["language_info"] = {"name": "python"}  # not the version of this machine's Python
    return notebook


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {
            "MODELSCOPE_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
            "MODELSCOPE_CACHE": cache,
            "VIT_PIPELINE_HUB_TIMEOUT": "3",
        }
        for lang, path in NOTEBOOKS.items():
            notebook = execute(compose(lang))
            nbformat.validate(notebook)
            nbformat.write(notebook, path)
            print(f"{path.name}: {len(notebook.cells)} cells, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
