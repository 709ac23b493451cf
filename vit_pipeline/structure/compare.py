"""Two models' structures side by side, and what differs.

Rows are matched by what they are: ``layers.0–11`` of one model is ``layers.0–5`` of the other. Leaves out:
the rows' own making (``structure_rows``).
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from ..errors import ArgumentError
from . import Language, ModelStructure, Order, describe
from .rows import Row
from .style import STYLE
from .text import headline, markdown_cell, shape_text, visible
from .text_table import Column, dims, human, printable, table, tree, wrap
from .words import WORDS


@dataclass(frozen=True)
class ComparedRow:
    """The same part in both models; None where one of them lacks it."""

    name: str
    depth: int
    left: Row | None
    right: Row | None
    differs: tuple[str, ...]  #: of "presence", "class", "shape", "params", "macs", "repeat", "role"

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output."""
        sides = {
            side: row.to_dict() if row else None for side, row in (("left", self.left), ("right", self.right))
        }
        return {"name": self.name, "depth": self.depth, **sides, "differs": list(self.differs)}


@dataclass(frozen=True)
class Comparison:
    """Two structures, their rows in pairs. Print it; ``to_dict()``, ``to_markdown()``, ``to_html()``."""

    left: ModelStructure
    right: ModelStructure
    rows: tuple[ComparedRow, ...]

    @property
    def settings(self) -> dict[str, tuple[Any, Any]]:
        """The settings in which the two configs differ: name → (left, right)."""
        names = dict.fromkeys([*self.left.settings, *self.right.settings])
        pairs = {name: (self.left.settings.get(name), self.right.settings.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "left": self.left.to_dict(),
            "right": self.right.to_dict(),
            "settings": {name: list(pair) for name, pair in self.settings.items()},
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_text(self, width: int = 100) -> str:
        """Both models' output shapes, parameters and MACs in one table; ≠ marks what differs."""
        words = WORDS[self.left.lang]
        rows = (
            self.rows[1:] if len(self.rows) > 1 else self.rows
        )  # the headlines stand for the models themselves
        lines = [
            f"{mark} {line}"
            for mark, s in (("A", self.left), ("B", self.right))
            for line in headline(s, width - 2)
        ]
        changed = " · ".join(f"{name} {a} ≠ {b}" for name, (a, b) in self.settings.items())
        lines += wrap(f"{words['differs']}: {changed or '–'}", width)
        columns = [Column(words["module"], tree([(row.depth - rows[0].depth, row.name) for row in rows]))]
        for mark, side in (("A", "left"), ("B", "right")):
            of = [getattr(row, side) for row in rows]
            shapes = [dims(row.out_shape) if row and row.out_shape else "" for row in of]
            params = [f"{row.params_total:,}" if row else "–" for row in of]
            macs = [human(row.cost_total.macs) if row else "–" for row in of]
            columns.append(Column(f"{mark} → {words['out']}", shapes))
            columns.append(Column(f"{mark} {words['params']}", params, right=True))
            columns.append(Column(f"{mark} MACs", macs, right=True))
        last = Column("", ["≠" if row.differs else "" for row in rows])
        return printable([*lines, *table(columns, last, width)])

    def to_markdown(self) -> str:
        """Settings and rows that differ as Markdown tables, with input and output shapes."""
        words = WORDS[self.left.lang]
        names = (markdown_cell(self.left.name), markdown_cell(self.right.name))
        lines = [
            f"## {names[0]} · {names[1]}",
            "",
            f"| {words['differs']} | {names[0]} | {names[1]} |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {markdown_cell(str(a))} | {markdown_cell(str(b))} |"
            for name, (a, b) in self.settings.items()
        ]
        heads = [f"{words[key]} {side}" for side in "AB" for key in ("shape", "params", "macs")]
        lines += [
            "",
            f"| {' | '.join([words['module'], *heads, ''])} |",
            "|---" + "|---|---:|---:" * 2 + "|---|",
        ]
        for row in self.rows:
            cells = [cell for side in (row.left, row.right) for cell in _cells(side)]
            name = "&nbsp;" * 2 * row.depth + markdown_cell(row.name)
            lines.append("| " + " | ".join([name, *cells, "≠" if row.differs else ""]) + " |")
        return "\n".join(lines) + "\n"

    def to_html(self, *, fragment: bool = False) -> str:
        """One self-contained page; ``fragment``: only its part inside ``<body>``, for a notebook."""
        lang = self.left.lang
        body = "\n".join(self._body())
        section = f'<section class="vit-structure" lang="{lang}">\n<style>{STYLE}</style>\n{body}\n</section>'
        head = f'<meta charset="utf-8"><title>{escape(self.left.name)} · {escape(self.right.name)}</title>'
        page = (
            f'<!doctype html>\n<html lang="{lang}">\n<head>{head}</head>\n<body class="vit-structure-page">\n'
        )
        return section if fragment else f"{page}{section}\n</body>\n</html>\n"

    def _body(self) -> Iterator[str]:
        words = WORDS[self.left.lang]
        names = [escape(self.left.name), escape(self.right.name)]
        yield f"<h1>{names[0]} · {names[1]}</h1>"
        for mark, structure in (("A", self.left), ("B", self.right)):
            yield f"<p><b>{mark}</b> {escape(' · '.join(headline(structure, 10_000)))}</p>"
        settings = [[name, *map(str, pair)] for name, pair in self.settings.items()]
        yield from _html_table([words["differs"], self.left.name, self.right.name], settings, numbers=())
        heads = [f"{words[key]} {side}" for side in "AB" for key in ("shape", "params", "macs")]
        rows = []
        for row in self.rows:
            cells = [cell for side in (row.left, row.right) for cell in _cells(side)]
            rows.append(["\u2003" * row.depth + row.name, *cells, "≠" if row.differs else ""])
        yield "<br>"
        yield from _html_table([words["module"], *heads, ""], rows, numbers=(2, 3, 5, 6))

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html(fragment=True)


def compare(
    left: Any,
    right: Any,
    lang: Language = "en",
    *,
    all_layers: bool = False,
    depth: int | None = None,
    order: Order = "module",
) -> Comparison:
    """Two models side by side.

    Args:
        left: what :func:`vit_pipeline.structure.describe` takes, or a ``ModelStructure``.
        right: the same.

    The other arguments, and what is raised, are those of ``describe``.
    """
    sides: list[ModelStructure] = []
    for model in (left, right):
        done = isinstance(model, ModelStructure)
        sides.append(
            model if done else describe(model, lang, all_layers=all_layers, depth=depth, order=order)
        )
    if sides[0].lang != sides[1].lang or sides[0].order != sides[1].order:
        raise ArgumentError(
            "two structures in different languages or orders cannot be compared; describe them alike"
        )
    first, second = sides
    return Comparison(first, second, tuple(_pairs(first, second)))


def _pairs(left: ModelStructure, right: ModelStructure) -> Iterator[ComparedRow]:
    ours, theirs = visible(left.rows), visible(right.rows)
    matcher = difflib.SequenceMatcher(None, _keys(ours), _keys(theirs), autojunk=False)
    for kind, a, a_end, b, b_end in matcher.get_opcodes():
        if kind == "equal":
            for (row, depth, name), (other, _, other_name) in zip(
                ours[a:a_end], theirs[b:b_end], strict=True
            ):
                yield ComparedRow(
                    name if name == other_name else f"{name} | {other_name}",
                    depth,
                    row,
                    other,
                    _differ(row, other),
                )
        else:
            for row, depth, name in ours[a:a_end]:
                yield ComparedRow(name, depth, row, None, ("presence",))
            for row, depth, name in theirs[b:b_end]:
                yield ComparedRow(name, depth, None, row, ("presence",))


def _keys(rows: list[tuple[Row, int, str]]) -> list[tuple[str, int]]:
    seen: Counter[str] = Counter()
    keys = []
    for row, depth, _ in rows:
        key = (
            re.sub(r"\d+–\d+", "#", row.shown_path) if depth else ""
        )  # two roots are a pair, whatever their class
        seen[key] += 1
        keys.append((key, seen[key]))
    return keys


def _differ(left: Row, right: Row) -> tuple[str, ...]:
    values: dict[str, Callable[[Row], Any]] = {
        "class": lambda row: row.class_name,
        "role": lambda row: row.role,
        "shape": lambda row: (row.in_shape, row.out_shape),
        "params": lambda row: row.params_total,
        "macs": lambda row: row.cost_total,
        "repeat": lambda row: row.repeat,
        "inert": lambda row: row.inert,
    }
    return tuple(name for name, value in values.items() if value(left) != value(right))


def _html_table(heads: list[str], rows: list[list[str]], numbers: tuple[int, ...]) -> Iterator[str]:
    kinds = [' class="vs-n"' if place in numbers else "" for place in range(len(heads))]
    yield '<div class="vs-scroll"><table><thead><tr>'
    yield "".join(f"<th{kind}>{escape(head)}</th>" for kind, head in zip(kinds, heads, strict=True))
    yield "</tr></thead><tbody>"
    for row in rows:
        cells = (f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _cells(row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return "–", "–", "–"
    return shape_text(row), f"{row.params_total:,}", f"{row.cost_total.macs:,}"


__all__ = ["ComparedRow", "Comparison", "compare"]
