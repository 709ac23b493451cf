"""A model's structure as text (rich), and as Markdown and a page (jinja2).

The page has neither script nor network; names that come from a model or its config stay text everywhere.
Leaves out: what the rows say (``rows``), the looks (``*.md.j2``, ``*.html.j2``, ``style.css``).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import printable
from .rows import WORDS, Row

if TYPE_CHECKING:
    from . import ModelStructure

# a Chinese character with the punctuation that must not begin a line, a word with the space after it
_PIECES = re.compile(r"[⺀-￯][，。；：、）”！？]*\s*|[^\s⺀-￯]+\s*|\s+")
_MARKUP = re.compile(r"([|<>&\[\]*_`\\])")


@dataclass(frozen=True)
class Sheet:
    """A table of texts."""

    heads: list[str]
    rows: list[list[str]]
    right: tuple[int, ...] = ()  #: columns that are aligned to the right
    spare: tuple[int, ...] = ()  #: columns that a narrow text goes without, the first one first
    depths: tuple[int, ...] = ()  #: of a tree in the first column; none: no tree
    marked: tuple[bool, ...] = ()  #: rows that stand out on the page

    def fit(self, width: int) -> list[int]:
        """The columns for a text of this width."""
        sizes = [max(map(cell_len, cells)) + 1 for cells in zip(self.heads, *self.rows, strict=True)]
        sizes[0] += 2 * max(self.depths, default=0)
        left = list(range(len(sizes)))
        for place in self.spare:
            if sum(sizes[column] for column in left) - 1 > width:
                left.remove(place)
        return left

    def to_rich(self, width: int) -> Table:
        """Without a box, as compact as it can be, in as many columns as fit."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        left = self.fit(width)
        for place in left:
            justify: Any = "right" if place in self.right else "left"
            table.add_column(Text(self.heads[place]), justify=justify, overflow="fold")
        guides = _guides(self.depths) if self.depths else [""] * len(self.rows)
        for guide, row in zip(guides, self.rows, strict=True):
            cells = [Text(printable(row[place])) for place in left]
            table.add_row(Text.assemble((guide, "dim"), cells[0]), *cells[1:])
        return table


def _guides(depths: Sequence[int]) -> Iterator[str]:
    """The lines of a tree in front of each label; parents stand first."""
    for place, depth in enumerate(depths):
        following = [next((d for d in depths[place + 1 :] if d <= level), 0) for level in range(1, depth + 1)]
        bars = ["│ " if after == level else "  " for level, after in enumerate(following, start=1)]
        if bars:
            bars[-1] = "├ " if bars[-1] == "│ " else "└ "
        yield "".join(bars)


def wrap(text: str, width: int) -> Text:
    """Lines of at most ``width`` columns, broken between words and between Chinese characters, never before
    punctuation."""
    lines = [""]
    for word in _PIECES.findall(printable(text, 5000)):
        for piece in [word] if cell_len(word.rstrip()) <= width else chop_cells(word, width):
            if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return Text("\n".join(line.rstrip() for line in lines))


class Shown:
    """What prints as text, and has a Markdown page, an HTML page and a view in notebooks."""

    _template: ClassVar[str]

    def _view(self) -> dict[str, Any]:
        """The values for its templates."""
        raise NotImplementedError

    def to_text(self, width: int = 100) -> str:
        """In ``width`` columns, without colour: the wider, the more columns the table has."""
        file = io.StringIO()
        Console(file=file, width=width, color_system=None, legacy_windows=False).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def to_markdown(self) -> str:
        """With every column, for a page in Markdown."""
        return _templates(escape_markdown).get_template(f"{self._template}.md.j2").render(self._view())

    def to_html(self, *, fragment: bool = False) -> str:
        """One self-contained page, collapsible, light and dark; ``fragment``: the part inside ``<body>``."""
        template = _templates(None).get_template(f"{self._template}.html.j2")
        return template.render(self._view(), fragment=fragment)

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html(fragment=True)


@cache
def _templates(escape: Callable[[Any], str] | None) -> Environment:
    """Of this folder, where every value is escaped: as HTML, or by the function given."""
    return Environment(
        loader=PackageLoader("vit_pipeline", "structure"),
        autoescape=escape is None,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def escape_markdown(text: Any) -> str:
    """Text that means nothing to Markdown or HTML, on one line."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[1])};", " ".join(str(text).split()))


def human(number: float, digits: int = 1) -> str:
    """``17.6 G``: with a prefix, and as many digits after the point as asked for; 0 as a dot."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.{digits}f} {unit}"
    return str(number) if number else "·"


def dims(shape: Sequence[int] | None) -> str:
    """``3×224×224``, without the batch of one; ``?`` where it is not known."""
    return "×".join(map(str, shape[1:])) if shape else "?"


def title(structure: ModelStructure) -> str:
    """What follows the name: class, version, shapes."""
    parts = [structure.class_name] if structure.class_name != structure.name else []
    parts += [structure.library, f"{dims(structure.input_shape)} → {dims(structure.output_shape)}"]
    parts += [WORDS[structure.lang]["execution"]] if structure.order == "execution" else []
    return " · ".join(parts)


def facts(structure: ModelStructure) -> list[tuple[str, str, str]]:
    """What, how much, and a note: parameters and memory, and the cost in both conventions."""
    words, cost = WORDS[structure.lang], structure.cost
    size = {dtype: f"{human(size)}B" for dtype, size in structure.weight_bytes.items()}
    memory = f"float32 {size['float32']} · bfloat16/float16 {size['float16']} · int8 {size['int8']}"
    counted = words["counted"].format(human(cost.activations, 2))
    as_timm = words["timm"].format(human(cost.activations_timm, 2))
    return [
        (words["params"], f"{structure.params:,}", words["weights"].format(memory)),
        (words["macs"], human(cost.macs, 3), counted),
        (words["macs"], human(cost.macs_timm, 3), as_timm),
    ]


def headline(structure: ModelStructure) -> list[str]:
    """Name and title, and the facts, as lines."""
    line = WORDS[structure.lang]["fact"]
    return [f"{structure.name} · {title(structure)}", *(line.format(*fact) for fact in facts(structure))]


def visible(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    """Rows with their depth, where a list and its items share a line."""
    lists: list[int] = []
    for row in rows:
        lists = [depth for depth in lists if depth < row.depth]
        if row.class_name == "ModuleList" and row.opens and row.depth:
            lists.append(row.depth)
        else:
            yield row, row.depth - len(lists)


def cells(row: Row) -> dict[str, str]:
    """What each column says of a row; numbers are with those of the rows below."""
    # older names: without what all paths in a layer have in front, and only where they differ
    paths = (row.path, *row.tutorial_paths)
    here, *older = [re.sub(r"^.*\blayers?\.\d+\.|^vit\.", "", path) for path in paths]
    total = f"{row.params_total:,}" if row.params_total else "·"
    return {
        "module": row.name,
        "class": row.class_name,
        "older": "" if older == [here] or row.role == "layer" else " + ".join(older),
        "in": f"{dims(row.in_shape)} →" if row.in_shape else "",
        "out": dims(row.out_shape) if row.out_shape else "",
        "shape": f"{dims(row.in_shape)} → {dims(row.out_shape)}" if row.in_shape or row.out_shape else "",
        "params": total if row.params_total == row.params else f"Σ {total}",
        "macs": human(row.cost_total.macs) if row.cost is not None else "?",
        "role": row.brief,
    }


def structure_sheet(structure: ModelStructure) -> Sheet:
    """The table as a text has it, without the model itself, for which the headline stands."""
    words = WORDS[structure.lang]
    lines = list(visible(structure.rows))
    lines = [(row, depth - 1) for row, depth in lines[1:]] or lines
    columns = ("module", "class", "older", "in", "out", "params", "macs", "role")
    rows = [[cells(row)[column] for column in columns] for row, _ in lines]
    for (row, _), texts in zip(lines, rows, strict=True):
        if row.call and row.call[0] > 1:
            texts[-1] = f"{words['call'].format(*row.call)} · {texts[-1]}"
    depths = tuple(depth for _, depth in lines)
    heads = [words[column] for column in columns]
    return Sheet(heads, rows, right=(3, 5, 6), spare=(2, 1, 3, 6, 4, 5), depths=depths)


def rich_structure(structure: ModelStructure, width: int) -> Iterator[RenderableType]:
    """Headline, table and notes; below them the trace of an image, if there is one."""
    words = WORDS[structure.lang]
    sheet = structure_sheet(structure)
    yield from (wrap(line, width) for line in headline(structure))
    yield sheet.to_rich(width)
    left = sheet.fit(width)
    classes: dict[str, list[str]] = {}
    for row in structure.rows[1:] if 1 not in left else ():
        said = row.layers or row.label.replace("_", "") in row.class_name.lower()  # by its name
        if row.kind == "module" and not said and row.class_name != "ModuleList":
            classes.setdefault(row.class_name, []).append(row.label)
    named = [f"{', '.join(dict.fromkeys(labels))} {kind}" for kind, labels in classes.items()]
    renamed = [(row.label, cells(row)["older"]) for row in structure.rows if 2 not in left]
    older = [f"{label} = {names}" for label, names in renamed if names]
    yield wrap(words["sum"] + (words["classes"] if named else "") + " · ".join(named), width)
    for intro, items in ((words["names"], older), (words["not_counted"], structure.not_counted)):
        if items:
            yield wrap(intro + " · ".join(dict.fromkeys(items)), width)
    if structure.steps:
        yield from (Text(""), wrap(words["trace"].format(structure.source), width))
        yield from (trace_sheet(structure).to_rich(width), wrap(words["trace_legend"], width))


def trace_sheet(structure: ModelStructure) -> Sheet:
    """The trace of an image: of equal layers that are folded only the first step by step."""
    words = WORDS[structure.lang]
    kernels = dict.fromkeys(("eager", structure.kernel or "model()"))
    heads = [words[key] for key in ("step", "out", "mean", "std", "cls")]
    heads += [f"Δ {name}" for name in kernels]
    folded = [row.layers for row in structure.rows if row.layers and row.role == "layer"]
    brief = {index for first, last in folded for index in range(first + 1, last + 1)}
    steps = [s for s in structure.steps if s.layer not in brief or s.role == "residual_mlp"]
    rows = []
    for step in steps:
        differences = ["" if d is None else f"{d:.1e}" for d in (step.difference, step.difference_as_set)]
        norm = "" if step.cls_norm is None else f"{step.cls_norm:.3f}"
        row = [step.name, dims(step.shape), f"{step.mean:.4f}", f"{step.std:.4f}", norm, *differences]
        rows.append(row[: len(heads)])
    marked = tuple(step.difference is not None for step in steps)
    return Sheet(heads, rows, tuple(range(2, len(heads))), spare=(2, 3, 4), marked=marked)


def structure_view(structure: ModelStructure) -> dict[str, Any]:
    """The values for the templates of a structure."""

    def shares(row: Row) -> dict[str, str]:  # of the model, in percent
        parts = (row.params_total, structure.params), (row.cost_total.macs, structure.cost.macs)
        percent = [f"{100 * row.repeat * part / total:.1f}" if part else "" for part, total in parts]
        return {"params": percent[0], "macs": percent[1]}

    return vars(structure) | {
        "words": WORDS[structure.lang],
        "title": title(structure),
        "facts": facts(structure),
        "headline": headline(structure),
        "lines": [(row, cells(row), shares(row)) for row in structure.rows],
        "trace": trace_sheet(structure) if structure.steps else None,
    }
