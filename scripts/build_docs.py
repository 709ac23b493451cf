"""Build the site, strictly and without a network; run by ``make docs``.

python scripts/build_docs.py [FOLDER]    FOLDER: docs/_build unless another is given

Sphinx checks the cross references. What it does not check is looked up in the finished pages: every link and
anchor leads somewhere, and nothing is loaded from another host.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LANGUAGES = ("en", "zh")


def build(folder: Path) -> None:
    """The start page, a page of the explorer, and the site in both languages: Chinese links into English."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DOCS / "index.html", folder)
    page = ["-m", "vit_pipeline", "explore", "--model", "demo", "--quiet", "-o", folder / "explorer.html"]
    commands = [[*page, ROOT / "examples" / "cat.png"]]
    for lang in LANGUAGES:
        strictly = [*"-E -a -W --keep-going -q".split(), "-c", DOCS, "-d", folder / ".doctrees" / lang]
        commands.append(["-m", "sphinx", *strictly, "-t", lang, DOCS / lang, folder / lang])
    for command in commands:
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


class Page(HTMLParser):
    """The anchors and the links of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, set[str](), set[str]()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        loads = tag != "a" and not (tag == "link" and given.get("rel") in ("next", "prev", "index", "search"))
        found = {given[name] for name in ("href", "src") if name in given}
        (self.loaded if loads else self.links).update(found)


def problems(folder: Path) -> Iterator[str]:
    """Links that lead nowhere, and what is loaded from elsewhere."""
    pages = {path: Page(path) for lang in LANGUAGES for path in (folder / lang).rglob("*.html")}
    pages[folder / "index.html"] = Page(folder / "index.html")
    for path, page in pages.items():
        where = path.relative_to(folder)
        yield from (f"{where} loads {link}" for link in page.loaded if urlsplit(link).netloc)
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if parts.scheme or parts.netloc:
                continue
            if not target.is_file():
                yield f"{where}: nothing is at {link}"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where}: no such anchor, {link}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DOCS / "_build")
    folder = parser.parse_args().folder.resolve()
    try:
        build(folder)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    if found := sorted(problems(folder)):
        sys.exit("\n".join(found))
    print(f"{folder / 'index.html'}: open this")


if __name__ == "__main__":
    main()
