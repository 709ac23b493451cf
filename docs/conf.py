"""How Sphinx makes the site: once in English, once in Chinese (``-t zh``); ``make docs`` does both.

Pages that are made of the program itself, such as the commands, are Jinja templates: what ``FROM_THE_CODE`` has for
a page can be used there.
"""

import re
import sys
from pathlib import Path
from typing import Any

import typer
from sphinx.search.zh import SearchChinese

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
nitpick_ignore_regex = [  # others' classes, whose documentation is elsewhere, and two that nobody needs to know
    ("py:.*", r"(?!vit_pipeline\b).*|vit_pipeline\.(names\.KnownModel|checkpoints\.folder\.Calibration)"),
]
suppress_warnings = ["myst.strikethrough"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = html_copy_source = html_show_sphinx = html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
# Furo's colours of code are a little pale for WCAG AA
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"


class Chinese(SearchChinese):
    """Words are not cut out of Chinese text: each pair of neighbouring characters is one, here and in the browser."""

    js_splitter_code = (HERE / "static" / "pairs.js").read_text("utf-8")

    def split(self, input: str) -> list[str]:
        words = re.findall(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+", input)
        self.latin_terms.update(word for word in words if word.isascii())
        return [
            part
            for word in words
            for part in ([word] if word < "\u3400" or len(word) == 1 else map("".join, zip(word, word[1:])))
        ]


def _commands() -> list[dict[str, Any]]:
    """Every command as ``--help`` has it: name, text, usage, and (how it is written, what it says) of each option."""
    group = typer.main.get_command(command_line)
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = command.make_context(name, [], resilient_parsing=True)
        records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        usage = " ".join(command.collect_usage_pieces(context))
        found.append({"name": name, "help": command.help, "usage": usage, "options": [r for r in records if r]})
    return found


def _titles() -> dict[str, str]:
    """How each part is headed: its name in transformers and its role, or the role's brief for a step without a name."""
    found = {}
    for key, role in ROLES.items():
        names = dict.fromkeys(path.rpartition(".")[2] for path in (*role.paths, *role.old) if path[-1] != "#")
        brief = TEXTS[LANG][key][0]
        found[key] = f"{', '.join(f'`{name}`' for name in names)}: {brief}" if names else brief
    return found


FROM_THE_CODE: dict[str, Any] = {
    "reference/commands": {"commands": _commands},
    "explanation/parts": {"roles": ROLES, "texts": TEXTS[LANG], "titles": _titles},
}


def from_the_code(app: Any, page: str, source: list[str]) -> None:
    if page in FROM_THE_CODE:
        source[0] = app.builder.templates.environment.from_string(source[0]).render(FROM_THE_CODE[page])


def other_language(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """A link to the same page in the other language, or to the nearest above it, at the head of each page."""
    if "body" not in context or not tree:
        return
    lang, said = ("en", "English") if LANG == "zh" else ("zh", "中文")
    nearest = page, f"{page.partition('/')[0]}/index", "index"
    there = next(name for name in nearest if (HERE / lang / f"{name}.md").exists())
    link = context["pathto"](f"../{lang}/{there}.html", 1)
    tag = f'<a href="{link}" lang="{lang}" hreflang="{lang}">{said}</a>'
    context["body"] = f'<p class="language">{tag}</p>\n{context["body"]}'


def setup(app: Any) -> None:
    app.add_search_language(Chinese)
    app.connect("source-read", from_the_code)
    app.connect("html-page-context", other_language)
