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

from ..errors import ArgumentError
from . import Language, ModelStructure, Order, describe, render
from .render import Sheet, wrap
from .rows import WORDS, Row

_VALUES = {
    "class": attrgetter("class_name"),
    "role": attrgetter("role"),
    "shape": attrgetter("in_shape", "out_shape"),
    "params": attrgetter("params_total"),
    "macs": attrgetter("cost_total"),
    "repeat": attrgetter("repeat"),
    "inert": attrgetter("inert"),
}


@dataclass(frozen=True)
class ComparedRow:
    """The same part in both models; None where one of them lacks it."""

    name: str
    depth: int
    left: Row | None
    right: Row | None

    @property
    def differs(self) -> tuple[str, ...]:
        """What of it differs; ("presence",) where one model lacks it."""
        if self.left is None or self.right is None:
            return ("presence",)
        return tuple(key for key, value in _VALUES.items() if value(self.left) != value(self.right))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output."""
        left, right = (row and row.to_dict() for row in (self.left, self.right))
        return {
            "name": self.name,
            "depth": self.depth,
            "left": left,
            "right": right,
            "differs": list(self.differs),
        }


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
        """Everything, ready for JSON."""
        return {
            "left": self.left.to_dict(),
            "right": self.right.to_dict(),
            "settings": {name: list(pair) for name, pair in self.settings.items()},
            "rows": [row.to_dict() for row in self.rows],
        }

    def _view(self) -> dict[str, Any]:
        return {
            "lang": self.left.lang,
            "name": f"{self.left.name} · {self.right.name}",
            "heads": [(mark, render.headline(side)) for mark, side in (("A", self.left), ("B", self.right))],
            "sheets": (self._settings(), self._table(self.rows)),
        }

    def _settings(self) -> Sheet:
        rows = [[name, str(a), str(b)] for name, (a, b) in self.settings.items()]
        return Sheet([WORDS[self.left.lang]["setting"], "A", "B"], rows, ())

    def _table(self, rows: tuple[ComparedRow, ...]) -> Sheet:
        words = WORDS[self.left.lang]
        heads = [f"{side} {words[key]}" for side in "AB" for key in ("out", "params", "macs")]
        cells = [
            [row.name, *_numbers(row.left), *_numbers(row.right), "≠" if row.differs else ""] for row in rows
        ]
        depths = tuple(row.depth - rows[0].depth for row in rows)
        return Sheet([words["module"], *heads, ""], cells, (2, 3, 5, 6), (4, 1, 6, 3), depths)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        for mark, structure in (("A", self.left), ("B", self.right)):
            yield from (wrap(f"{mark} {line}", width) for line in render.headline(structure))
        changed = " · ".join(f"{name} {a} ≠ {b}" for name, (a, b) in self.settings.items())
        yield wrap(WORDS[self.left.lang]["differences"].format(changed or "–"), width)
        rows = self.rows[1:] or self.rows  # the headlines stand for the models themselves
        yield self._table(rows).to_rich(width)


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
    first, second = (
        side
        if isinstance(side, ModelStructure)
        else describe(side, lang, all_layers=all_layers, depth=depth, order=order)
        for side in (left, right)
    )
    if (first.lang, first.order) != (second.lang, second.order):
        raise ArgumentError(
            "two structures in different languages or orders cannot be compared; describe them alike"
        )
    return Comparison(first, second, tuple(_pairs(first, second)))


def _pairs(left: ModelStructure, right: ModelStructure) -> Iterator[ComparedRow]:
    ours, theirs = list(render.visible(left.rows)), list(render.visible(right.rows))
    matcher = difflib.SequenceMatcher(None, _keys(ours), _keys(theirs), autojunk=False)
    for kind, a, a_end, b, b_end in matcher.get_opcodes():
        if kind == "equal":
            for (row, depth), (other, _) in zip(ours[a:a_end], theirs[b:b_end], strict=True):
                yield ComparedRow(" | ".join(dict.fromkeys((row.name, other.name))), depth, row, other)
        else:
            yield from (ComparedRow(row.name, depth, row, None) for row, depth in ours[a:a_end])
            yield from (ComparedRow(row.name, depth, None, row) for row, depth in theirs[b:b_end])


def _keys(rows: list[tuple[Row, int]]) -> list[str]:
    """What makes two rows a pair: the path without the numbers of layers. Two roots always are one."""
    return [re.sub(r"\d+–\d+", "#", row.shown_path) if depth else "" for row, depth in rows]


def _numbers(row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return "–", "–", "–"
    return render.dims(row.out_shape) if row.out_shape else "", render.sum_text(row), render.macs_text(row)


__all__ = ["ComparedRow", "Comparison", "compare"]
