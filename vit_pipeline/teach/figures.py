"""Three figures, their words in two languages; none needs more code than its data in a notebook's cell."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..explain.figure import blank, finish

#: ``words`` and ``hints``, each a pair: English, Chinese
TEXT: dict[str, Any] = tomllib.loads(Path(__file__).with_name("teach.toml").read_text("utf-8"))
_spoken = [0]


def speak(lang: Literal["en", "zh"]) -> None:
    """Choose the language of figures and hints."""
    _spoken[0] = ("en", "zh").index(lang)


def said(pair: Sequence[str]) -> str:
    """The half of a pair of ``teach.toml`` that is in the chosen language."""
    return pair[_spoken[0]]


def word(key: object) -> str:
    """A word of ``teach.toml``; anything else stays as it is."""
    return said(TEXT["words"].get(str(key), (str(key), str(key))))


def tiles(
    images: Sequence[Any],
    titles: Sequence[object] = (),
    columns: int = 8,
    *,
    size: float = 1.1,
    over: Any = None,
    limits: tuple[float, float] | None = None,
) -> Any:
    """Images and maps beside one another.

    Args:
        images: PIL images; (H, W) maps; (3, H, W) colours about 0, which is shown as gray.
        titles: above each; words of ``teach.toml`` are translated.
        columns: tiles in a row. ``size``: of a tile, in inches.
        over: an image that shows through every map.
        limits: the values at the ends of the colours; None: each image's own.
    """
    import numpy as np

    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    figure = blank(columns * size, rows * (size + 0.25 * bool(titles)))
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if place >= len(images):
            continue
        pixels = np.asarray(images[place])
        if pixels.ndim == 3 and len(pixels) == 3:
            most = limits[1] if limits else np.abs(pixels).max()
            pixels = (pixels / most / 2 + 0.5).clip(0, 1).transpose(1, 2, 0)
        low, high = limits or (pixels.min(), pixels.max())
        shown: dict[str, Any] = {"extent": (0, 1, 1, 0), "interpolation": "nearest"}
        if over is not None and pixels.ndim == 2:
            axes.imshow(over.convert("L"), "gray", vmin=-80, vmax=300, **shown)
            shown["alpha"] = 0.55
        axes.imshow(pixels, "inferno" if over else "viridis", vmin=low, vmax=high, **shown)
        if place < len(titles):
            axes.set_title(word(titles[place]), fontsize=9)
    return finish(figure)


def lines(curves: Mapping[str, Sequence[float]], title: str = "", x: str = "", y: str = "") -> Any:
    """Curves over 0, 1, 2 …, one for each name; words of ``teach.toml`` are translated."""
    figure = blank(7.5, 3)
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(range(len(values)), values, marker="." if len(values) < 40 else "", label=word(name))
    axes.set(title=word(title), xlabel=word(x), ylabel=word(y))
    figure.legend(frameon=False, loc="outside right center")
    axes.spines[["top", "right"]].set_visible(False)
    return finish(figure)


def table(
    matrix: Any, rows: Sequence[object], columns: Sequence[object] | None = None, y: str = "", x: str = ""
) -> Any:
    """A matrix with its numbers, the larger the darker; None: ``columns`` are the same as ``rows``."""
    import numpy as np

    values = np.asarray(matrix)
    columns = columns or rows
    figure = blank(1.5 + 0.5 * len(columns), 1 + 0.36 * len(rows))
    axes = figure.subplots()
    axes.imshow(values, "Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > (values.max() + values.min()) / 2 else "black"
        text = f"{value:.2f}" if values.dtype.kind == "f" else str(value)
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(range(len(rows)), map(word, rows))
    axes.set_xticks(range(len(columns)), map(word, columns))
    axes.set(ylabel=word(y), xlabel=word(x))
    axes.tick_params(length=0)
    return finish(figure)
