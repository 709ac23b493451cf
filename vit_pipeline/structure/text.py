"""Text in a terminal: tables in as many columns as fit, images of patches in characters, lines that wrap.

Leaves out: what stands in them (``render``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import printable

# a Chinese character or a word, with the punctuation that must not begin a line and the space after it
_PIECES = re.compile(r"(?:[⺀-￯]|[^\s⺀-￯]+)[，。；：、）”！？]*\s*|\s+")
_LUMA = (0.299, 0.587, 0.114)  # of RGB, ITU-R BT.601


@dataclass(frozen=True)
class Sheet:
    """A table of texts."""

    titles: dict[str, str]  #: of the columns, by key
    rows: list[dict[str, Any]]  #: texts by column; "depth" in a tree; "marked": stands out on the page
    right: tuple[str, ...] = ()  #: columns that are aligned to the right
    spare: tuple[str, ...] = ()  #: columns that a narrow text goes without, the first one first

    def fit(self, width: int) -> list[str]:
        """The columns for a text of this width."""
        sizes = {key: cell_len(title) + 1 for key, title in self.titles.items()}
        for row in self.rows:
            for place, key in enumerate(sizes):
                indent = 0 if place else 2 * row["depth"]
                sizes[key] = max(sizes[key], indent + cell_len(row[key]) + 1)
        for key in self.spare:
            if sum(sizes.values()) - 1 > width:
                del sizes[key]
        return list(sizes)

    def to_rich(self, width: int) -> Table:
        """Without a box, as compact as it can be, in as many columns as fit."""
        table, keys = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0), self.fit(width)
        for key in keys:
            justify: Any = "right" if key in self.right else "left"
            table.add_column(Text(self.titles[key]), justify=justify, overflow="fold")
        guides = _guides([row["depth"] for row in self.rows])
        for guide, row in zip(guides, self.rows, strict=True):
            first, *others = (Text(printable(row[key])) for key in keys)
            table.add_row(Text.assemble((guide, "dim"), first), *others)
        return table


@dataclass(frozen=True)
class Mosaic:
    """An image of patches in characters: in colour, or shaded where a terminal has none."""

    cells: Sequence[Sequence[Any]]  #: (rows, cols) of RGB, 0 to 255, or of one value, which is shaded

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        values = np.asarray(self.cells, float)
        across = min(2, options.max_width // values.shape[1])  # none of it, where it does not fit
        if values.ndim == 3 and console.color_system:
            yield from (Text.assemble(*(("█" * across, _rgb(c)) for c in row)) for row in self.cells)
        else:
            values = values @ _LUMA if values.ndim == 3 else values
            shades = (4.99 * (values - values.min()) / (np.ptp(values) or 1)).astype(int)
            yield from (Text("".join(" ░▒▓█"[shade] * across for shade in row)) for row in shades)


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


def _rgb(colour: Sequence[int]) -> str:
    """As rich names it."""
    return f"rgb({','.join(map(str, colour))})"
