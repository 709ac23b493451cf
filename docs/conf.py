"""How Sphinx makes the site: once in English, once in Chinese (``-t zh``); ``make docs`` does both.

Pages that are made of the program itself, such as the commands, are Jinja templates, which can use what
``FROM_THE_CODE`` has for them.
"""

import json
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from sphinx.search.en import SearchEnglish

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from vit_pipeline.cli import app as command_line  # noqa: E402
from vit_pipeline.roles import ROLES, TEXTS  # noqa: E402

LANG = "zh" if tags.has("zh") else "en"  # type: ignore[name-defined] # noqa: F821

project, author, copyright = "vit-pipeline", "the authors of vit-pipeline", "the authors of vit-pipeline"
html_title = "vit-pipeline"
language = {"en": "en", "zh": "zh_CN"}[LANG]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_*"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!vit_pipeline\b).*"),  # others' classes, whose documentation is elsewhere
    ("py:class", r".*\.(names\.KnownModel|checkpoints\.folder\.Calibration)"),
]

myst_heading_anchors = 3
smartquotes = False  # or options get dashes: “--image”
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = html_copy_source = html_show_sphinx = html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
# Furo's colours of code are a little pale for WCAG AA
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"


class Chinese(SearchEnglish):
    """Chinese text has no spaces: each pair of neighbouring characters is a word, here and in the browser."""

    lang = "zh"
    js_splitter_code = (HERE / "static" / "pairs.js").read_text("utf-8")

    def split(self, input: str) -> list[str]:
        found = []
        for word in re.findall(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+", input):
            is_chinese = "\u3400" <= word[0] <= "\u9fff" and len(word) > 1
            found += [a + b for a, b in pairwise(word)] if is_chinese else [word]
        return found


def _commands() -> list[dict[str, Any]]:
    """Every command as ``--help`` has it; of each option, how it is written and what it says."""
    group = typer.main.get_command(command_line)
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = command.make_context(name, [], resilient_parsing=True)
        records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        usage = " ".join(command.collect_usage_pieces(context))
        found.append(
            {"name": name, "help": command.help, "usage": usage, "options": [r for r in records if r]}
        )
    return found


def _names() -> dict[str, list[str]]:
    """What each part is called, in transformers today and before; a step that never prints has no name.

    A name that several parts have is followed by the path inside a layer that tells them apart.
    """
    paths = {
        key: [path for path in (*role.paths, *role.old) if path[-1] != "#"] for key, role in ROLES.items()
    }
    found = {key: [*dict.fromkeys(path.rpartition(".")[2] for path in own)] for key, own in paths.items()}
    often = Counter(names[0] for names in found.values() if names)
    for key, names in found.items():
        if names and often[names[0]] > 1:
            names.insert(0, paths[key][0].rpartition("#.")[2])
    return found


def _notebook(name: str) -> str:
    """A notebook of the course with its outputs, as Markdown."""
    text = (HERE.parent / "notebooks" / LANG / f"{name}.ipynb").read_text("utf-8")
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = re.sub(r"]\((\w+)\.ipynb\)", r"](\1.md)", source)
            other = r'<a href="../../\2/course/\3.html" lang="\2">\1</a>'
            source = re.sub(r"\[([^]]+)]\(\.\./(en|zh)/(\w+)\.ipynb\)", other, source)
            parts.append(source.replace("](../", "](../../../notebooks/"))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            shown = output.get("data") or {"text/plain": output.get("text", [])}
            kind = next(
                kind for kind in ("text/html", "image/png", "image/jpeg", "text/plain") if kind in shown
            )
            value = "".join(shown[kind])
            image = f'<p><img alt="{OUTPUT[LANG]}" src="data:{kind};base64,{value}"></p>'
            ways = {"text/html": f"```{{raw}} html\n{value}\n```", "text/plain": f"```text\n{value}\n```"}
            parts.append(ways.get(kind, image))
    return "\n\n".join(parts)


OUTPUT = {"en": "what the cell above draws", "zh": "上面的单元格画出的图"}
FROM_THE_CODE: dict[str, Any] = {
    "reference/commands": {"commands": _commands},
    "explanation/parts": {"roles": ROLES, "texts": TEXTS[LANG], "names": _names},
}


def prepare(app: Any, page: str, source: list[str]) -> None:
    """Fill in what comes from the code; outside code, a line break between Chinese characters is no space."""
    text = source[0]
    if own := FROM_THE_CODE.get(page, {"notebook": _notebook} if page.startswith("course/") else None):
        text = app.builder.templates.environment.from_string(text).render(own)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    break_in_chinese = r"(?<=[\u3000-\u9fff\uff00-\uffef])\n *(?=[\u3000-\u9fff\uff00-\uffef])"
    parts[::2] = [re.sub(break_in_chinese, "", part) for part in parts[::2]]
    source[0] = "".join(parts)


def finish(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """A link to this page in the other language, or to the nearest above it; what axe-core finds wanting."""
    navigation = context["furo_navigation_tree"]
    context["furo_navigation_tree"] = navigation.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" not in context or not tree:
        return
    lang, said = ("en", "English") if LANG == "zh" else ("zh", "中文")
    nearest = page, f"{page.partition('/')[0]}/index", "index"
    there = next(name for name in nearest if (HERE / lang / f"{name}.md").exists())
    link = context["pathto"](f"../{lang}/{there}.html", 1)
    tag = f'<p class="language"><a href="{link}" lang="{lang}" hreflang="{lang}">{said}</a></p>'
    # what scrolls can be reached with the keyboard
    body = context["body"].replace("<pre>", '<pre tabindex="0">')
    body = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    context["body"] = f"{tag}\n{body}"


ATTRIBUTES: dict[str, list[str]] = {}


def keep(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Before Napoleon, which takes what stands before a colon in an attribute's text for its type."""
    if what == "attribute":
        ATTRIBUTES[name] = [*lines]


def put_back(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """After Napoleon."""
    lines[:] = ATTRIBUTES.get(name, lines)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", keep, priority=400)
    app.connect("autodoc-process-docstring", put_back, priority=600)
    app.add_search_language(Chinese)
    app.connect("source-read", prepare)
    app.connect("html-page-context", finish, priority=900)  # after Furo
