"""Build the course and execute it: ``make notebooks``, or ``python notebooks/build.py 3 4`` for some.

``src/N_name.py`` has a notebook's code, once, in percent format; ``N_name.en.md`` and ``N_name.zh.md`` have
the words, and say with ``{{cell}}`` where each cell stands. A heading begins a new Markdown cell.
``src/start.py`` has the first cell of all notebooks; in it, ``LANG`` is all that differs between languages.

Nothing leaves this machine: a server on 127.0.0.1 speaks ModelScope's protocol and has the files of ``demo``
under the name of ViT-B/16, and a proxy on 127.0.0.1 answers every http address with a photo of ``examples/``.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  (builds its cache here, not with a message in a notebook)
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
ROOT = HERE.parent
LANGUAGES = ("en", "zh")
NAMES = sorted(path.stem for path in (HERE / "src").glob("[0-9]_*.py"))
REPO = "AI-ModelScope/vit-base-patch16-224"
DEMO = ROOT / "vit_pipeline" / "demo_model"


def path_of(name: str, lang: str) -> Path:
    return HERE / lang / f"{name}.ipynb"


def code_cells(name: str, lang: str) -> dict[str, NotebookNode]:
    """Cell name → cell, in the order of the sources."""
    sources = [(HERE / "src" / f"{part}.py").read_text(encoding="utf-8") for part in ("start", name)]
    cells = {}
    for part in re.split(r"^# %% ", "\n".join(sources), flags=re.MULTILINE)[1:]:
        heading, _, source = part.partition("\n")
        source = re.sub(r"\n{3,}", "\n\n", source.replace('LANG = "en"', f'LANG = "{lang}"'))
        cells[heading.strip()] = new_code_cell(source.strip(), id=heading.strip())
    return cells


def compose(name: str, lang: str) -> NotebookNode:
    """One notebook, not executed."""
    codes = code_cells(name, lang)
    cells: list[NotebookNode] = []
    prose = (HERE / "src" / f"{name}.{lang}.md").read_text(encoding="utf-8")
    prose = re.sub(r"!\[(.*)\]\((images/.*\.png)\)", lambda match: embedded(HERE / match[2], match[1]), prose)
    for number, part in enumerate(re.split(r"^\{\{([\w-]+)\}\}$", prose, flags=re.MULTILINE)):
        if number % 2:
            cells.append(codes.pop(part))
            continue
        for piece in re.split(r"\n(?=#{1,3} )", part.strip()):
            if piece.strip():
                cells.append(new_markdown_cell(joined(piece.strip()), id=f"text-{len(cells)}"))
    if codes:
        raise SystemExit(f"{name}.{lang}.md leaves out {', '.join(codes)}")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def embedded(path: Path, text: str) -> str:
    """An image inside the Markdown: it shows wherever the notebook alone is opened."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"


def joined(text: str) -> str:
    """Chinese lines joined without the space that a line break becomes; one stays beside Latin letters."""
    mark, wide = r"[\u2014-\u201d\u3000-\u303f\uff00-\uffef]", r"[\u2014-\u201d\u3000-\u9fff\uff00-\uffef]"
    between = r"\n(?:> ?|  +)?(?![\s\-|#>]|\d+\. )"  # lines of one paragraph, quotation or entry of a list
    return re.sub(
        rf"(?<={mark}){between}|(?<={wide}){between}(?={wide})|(?<=[^\s|>]){between}(?={mark})", "", text
    )


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run all cells in ``folder``; the first error ends it. Progress bars and log lines are left out."""
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        timeout=900,  # seconds a cell
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                data = output.get("data", {})
                data.pop("application/vnd.jupyter.widget-view+json", None)
                if "image/jpeg" in data:  # a photo, ten times as large as PNG
                    data.pop("image/png", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}  # not the version of this machine's Python
    return notebook


@contextmanager
def loopback(cache: Path) -> Iterator[dict[str, str]]:
    """The environment in which ModelScope and every http address are on this machine."""
    sys.path.insert(0, str(ROOT / "tests"))
    from hub_server import HubServer

    class Photo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # as a proxy: the address asked for is self.path
            content = (ROOT / "examples" / "cat.png").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HubServer() as hub, ThreadingHTTPServer(("127.0.0.1", 0), Photo) as proxy:
        files = ("config.json", "model.safetensors", "preprocessor_config.json")
        hub.add(REPO, {name: (DEMO / name).read_bytes() for name in files})
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield {
            "MODELSCOPE_ENDPOINT": hub.endpoint,
            "MODELSCOPE_CACHE": str(cache),
            "MODELSCOPE_HOME": str(cache / "home"),
            "http_proxy": f"http://127.0.0.1:{proxy.server_address[1]}",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        proxy.shutdown()


def main() -> None:
    chosen = [name for name in NAMES if not sys.argv[1:] or name[0] in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as cache, loopback(Path(cache)) as environment:
        os.environ |= environment | {"OMP_NUM_THREADS": "1"}  # trained weights are the same everywhere
        for name in chosen:
            for lang in LANGUAGES:
                path = path_of(name, lang)
                path.parent.mkdir(exist_ok=True)
                notebook = execute(compose(name, lang), path.parent)
                nbformat.validate(notebook)
                nbformat.write(notebook, path)
                print(f"{lang}/{path.name}: {len(notebook.cells)} cells, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
