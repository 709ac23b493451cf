"""Tables and wrapped lines for a terminal, in which Chinese takes two columns a character.

Knows nothing of models. Leaves out: colour.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

# a Chinese character with the punctuation that must not begin a line, a word with the space after it
_PIECES = re.compile(r"[⺀-￯][，。；：、）”！？]*\s*|[^\s⺀-￯]+\s*|\s+")


@dataclass(frozen=True)
class Column:
    """A column as wide as its widest cell."""

    title: str
    cells: list[str]
    right: bool = False  #: numbers are aligned to the right

    @property
    def width(self) -> int:
        """In terminal columns."""
        return max(map(cell_len, [self.title, *self.cells]))


def table(columns: Sequence[Column], last: Column, width: int) -> list[str]:
    """Lines of a table; ``last`` takes the room that is left, on more lines where it must."""
    sizes = [column.width for column in columns]
    room = max(width - sum(sizes) - len(sizes), 16)

    def line(cells: Iterable[tuple[str, int, bool]], end: str) -> str:
        return " ".join([*(pad(text, size, right) for text, size, right in cells), end]).rstrip()

    rights = [column.right for column in columns]
    rule = "─" * width
    lines = [line(zip((column.title for column in columns), sizes, rights, strict=True), last.title), rule]
    for place, text in enumerate(last.cells):
        first, *rest = wrap(text, room) or [""]
        lines.append(
            line(zip((column.cells[place] for column in columns), sizes, rights, strict=True), first)
        )
        lines += [" " * (width - room) + more for more in rest]
    return [*lines, rule]


def tree(labels: Sequence[tuple[int, str]]) -> list[str]:
    """``(depth, label)`` in order, parents first → labels with the lines of a tree in front."""
    depths = [depth for depth, _ in labels]
    drawn = []
    for place, (depth, label) in enumerate(labels):
        lines = []
        for level in range(1, depth + 1):
            more = next((d for d in depths[place + 1 :] if d <= level), 0) == level
            lines.append(("├ " if more else "└ ") if level == depth else ("│ " if more else "  "))
        drawn.append("".join(lines) + label)
    return drawn


def pad(text: str, width: int, right: bool = False) -> str:
    """Filled up with spaces to ``width`` columns."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, broken between words and between Chinese characters."""
    lines: list[str] = []
    line = ""
    for word in _PIECES.findall(text):
        for piece in [word] if cell_len(word.rstrip()) <= width else chop_cells(word, width):
            if line and cell_len(line + piece.rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
    return [*lines, line.rstrip()] if line.strip() else lines


def printable(lines: Iterable[str]) -> str:
    """The lines as one text, without characters that a terminal would obey."""
    return "\n".join("".join(char if char.isprintable() else "�" for char in line) for line in lines)


def human(number: float, digits: int = 1) -> str:
    """``17.6 G``: with a prefix, and as many digits after the point as asked for; 0 as a dot."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.{digits}f} {unit}"
    return str(number) if number else "·"


def dims(shape: Sequence[int] | None) -> str:
    """``3×224×224``, without the batch of one; ``?`` where it is not known."""
    return "×".join(map(str, shape[1:])) if shape else "?"
