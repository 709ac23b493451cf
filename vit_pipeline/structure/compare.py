"""Two models' structures side by side, and what differs.

Rows are matched by what they are: ``layers.0–11`` of one model is ``layers.0–5`` of the other. Leaves out:
the rows' own making (``rows``), drawing (``render``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType

from . import Language, ModelStructure, describe, render
from .render import Sheet, wrap
from .rows import WORDS, Row

_VALUES = attrgetter(
    "class_name", "role", "in_shape", "out_shape", "params_total", "cost_total", "repeat", "inert"
)


@dataclass(frozen=True)
class ComparedRow:
    """The same part in both models; None where one of them lacks it."""

    left: Row | None
    right: Row | None
    depth: int

    @property
    def differs(self) -> bool:
        """In what it is, in its shapes or in its numbers."""
        return self.left is None or self.right is None or _VALUES(self.left) != _VALUES(self.right)


@dataclass(frozen=True)
class Comparison(render.Shown):
    """Two structures, their rows in pairs. Print it; ``to_dict()``, ``to_markdown()``, ``to_html()``."""

    _template = "compare"

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
        """Both structures and the settings that differ, ready for JSON."""
        settings = {name: list(pair) for name, pair in self.settings.items()}
        return {"left": self.left.to_dict(), "right": self.right.to_dict(), "settings": settings}

    def _view(self) -> dict[str, Any]:
        rows = [[name, str(a), str(b)] for name, (a, b) in self.settings.items()]
        settings = Sheet([WORDS[self.left.lang]["setting"], "A", "B"], rows)
        return {
            "lang": self.left.lang,
            "name": f"{self.left.name} · {self.right.name}",
            "heads": [(mark, render.headline(side)) for mark, side in (("A", self.left), ("B", self.right))],
            "sheets": (settings, self._table(self.rows)),
        }

    def _table(self, rows: tuple[ComparedRow, ...]) -> Sheet:
        words = WORDS[self.left.lang]
        columns = ("out", "params", "macs")
        lines = []
        for row in rows:
            left, right = (side and render.cells(side) for side in (row.left, row.right))
            names = dict.fromkeys(side["module"] for side in (left, right) if side)
            values = [side[column] if side else "–" for side in (left, right) for column in columns]
            lines.append([" | ".join(names), *values, "≠" if row.differs else ""])
        heads = [f"{side} {words[column]}" for side in "AB" for column in columns]
        depths = tuple(row.depth - rows[0].depth for row in rows)
        return Sheet([words["module"], *heads, ""], lines, (2, 3, 5, 6), (4, 1, 6, 3), depths)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        for mark, structure in (("A", self.left), ("B", self.right)):
            yield from (wrap(f"{mark} {line}", width) for line in render.headline(structure))
        changed = " · ".join(f"{name} {a} ≠ {b}" for name, (a, b) in self.settings.items())
        yield wrap(WORDS[self.left.lang]["differences"].format(changed or "–"), width)
        rows = self.rows[1:] or self.rows  # the headlines stand for the models themselves
        yield self._table(rows).to_rich(width)


def compare(left: Any, right: Any, lang: Language = "en", **options: Any) -> Comparison:
    """Two models side by side.

    Args:
        left: what :func:`vit_pipeline.structure.describe` takes, or a ``ModelStructure``.
        right: the same.
        lang: language of the explanations.
        options: other arguments of ``describe``.

    Raises what ``describe`` raises.
    """
    first, second = (
        side if isinstance(side, ModelStructure) else describe(side, lang, **options)
        for side in (left, right)
    )
    return Comparison(first, second, tuple(_pairs(first, second)))


def _pairs(left: ModelStructure, right: ModelStructure) -> Iterator[ComparedRow]:
    """Two rows are a pair if their paths are, without the numbers of layers; the two roots always are."""
    ours, theirs = list(render.visible(left.rows)), list(render.visible(right.rows))
    matcher = difflib.SequenceMatcher(None, _keys(ours), _keys(theirs), autojunk=False)
    for kind, a, a_end, b, b_end in matcher.get_opcodes():
        if kind == "equal":
            for (row, depth), (other, _) in zip(ours[a:a_end], theirs[b:b_end], strict=True):
                yield ComparedRow(row, other, depth)
        else:
            yield from (ComparedRow(row, None, depth) for row, depth in ours[a:a_end])
            yield from (ComparedRow(None, row, depth) for row, depth in theirs[b:b_end])


def _keys(rows: list[tuple[Row, int]]) -> list[str]:
    return [re.sub(r"\d+–\d+", "#", row.shown_path) if depth else "" for row, depth in rows]


__all__ = ["ComparedRow", "Comparison", "compare"]
