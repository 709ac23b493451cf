"""Draw the notebooks' one diagram: ``python notebooks/diagram.py`` writes ``images/vit*.svg`` and ``.png``.

The SVG is the drawing, its text as outlines, so that it needs no fonts. The PNG is what the notebooks embed:
code hosts and editors that refuse an SVG inside a notebook show it. Not part of ``make notebooks``: run it
when the drawing changes, on a machine with a Chinese font.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

HERE = Path(__file__).parent
Point = tuple[float, float]
SIDE = 3  # patches a side, few enough to draw every token
INK, FAINT, CLS, POSITION, PATCH, ENCODER = "#22313f", "#8b98a5", "#d9534f", "#e8a33d", "#3b7dd8", "#eef3f9"
TEXT = {
    "en": {
        "cut": "① cut into patches",
        "embed": "② E: one vector\nper patch",
        "add": "③ CLS in front,\n+ position",
        "layers": "④ L layers: every token looks at all tokens",
        "read": "⑤ only CLS\nis read",
        "scores": "⑥ head: one\nscore per class",
        "cls": "CLS",
        "attention": "self-attention",
        "mlp": "MLP",
        "norm": "LayerNorm",
        "times": "× L",
        "classes": ("cat", "dog", "frog", "bird"),
    },
    "zh": {
        "cut": "① 切成图像块（patch）",
        "embed": "② E：每个图像块\n变成一个向量",
        "add": "③ 最前面放 CLS，\n再加位置嵌入",
        "layers": "④ L 层编码器：每个 token 都看得见所有 token",
        "read": "⑤ 只读 CLS",
        "scores": "⑥ 分类头：\n每类一个分数",
        "cls": "CLS",
        "attention": "自注意力",
        "mlp": "MLP",
        "norm": "LayerNorm",
        "times": "× L",
        "classes": ("猫", "狗", "蛙", "鸟"),
    },
}
FONTS = {"en": ["DejaVu Sans"], "zh": ["Noto Sans CJK SC", "Noto Sans CJK JP", "DejaVu Sans"]}


def draw(lang: str) -> plt.Figure:
    words = TEXT[lang]
    figure = plt.figure(figsize=(13.2, 5.6), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 132), ylim=(0, 56), aspect="equal")
    axes.axis("off")

    # ① the photo, and its patches one under the other
    photo = Image.open(HERE.parent / "examples" / "cat.png").convert("RGB").crop((60, 0, 360, 300))
    pixels = np.asarray(photo.resize((180, 180), Image.Resampling.LANCZOS))
    axes.imshow(pixels, extent=(2, 26, 16, 40), zorder=2, interpolation="none")
    step = 180 // SIDE
    for line in range(1, SIDE):
        axes.plot([2 + 24 * line / SIDE] * 2, [16, 40], color="white", lw=2, zorder=3)
        axes.plot([2, 26], [16 + 24 * line / SIDE] * 2, color="white", lw=2, zorder=3)
    heights = [44.2 - 4.1 * row for row in range(SIDE * SIDE + 1)]  # CLS, then the patches
    for number, y in enumerate(heights[1:]):
        row, column = divmod(number, SIDE)
        tile = pixels[row * step : (row + 1) * step, column * step : (column + 1) * step]
        axes.imshow(tile, extent=(33, 36.4, y - 1.7, y + 1.7), zorder=2, interpolation="none")
        _arrow(axes, (37, y), (40.4, y))
    _arrow(axes, (27, 28), (32, 28), lw=2)

    # ② one vector each, ③ CLS and the positions
    shades = np.random.default_rng(4).uniform(0.25, 0.95, (SIDE * SIDE + 1, 5))
    for number, y in enumerate(heights):
        colour = CLS if number == 0 else PATCH
        for cell, shade in enumerate(shades[number]):
            _box(axes, 41 + 1.9 * cell, y - 1.35, 1.9, 2.7, colour, alpha=shade, rounding=0)
        _write(axes, 52.1, y, "+", 12)
        _box(axes, 53.7, y - 1.35, 3.6, 2.7, POSITION, rounding=0.5)
        _write(axes, 55.5, y - 0.1, str(number), 9, color="white", weight="bold")
        _arrow(axes, (58, y), (62, y))
    _write(axes, 40.2, heights[0] - 0.1, words["cls"], 10, ha="right", color=CLS, weight="bold")

    # ④ the encoder: two halves, each with its residual connection
    _box(axes, 62.6, 4.6, 34, 42.6, ENCODER, edge="#b8c7d9", rounding=2)
    _write(axes, 94.6, 44.2, words["times"], 15, ha="right", weight="bold")
    for x, step_name in ((68, "attention"), (84, "mlp")):
        colour = PATCH if step_name == "attention" else "#4c9f70"
        _box(axes, x - 2.6, 10, 3.6, 28, "#c9d3de", rounding=0.8)
        _write(axes, x - 0.8, 24, words["norm"], 9.5, rotation=90)
        _box(axes, x + 2.4, 10, 5.2, 28, colour, rounding=0.8)
        _write(axes, x + 5, 24, words[step_name], 12, rotation=90, color="white", weight="bold")
        _arrow(axes, (x + 1.1, 24), (x + 2.3, 24))
        _arrow(axes, (x + 7.7, 24), (x + 8.9, 24))
        _write(axes, x + 10, 24, "+", zorder=5)
        axes.add_patch(plt.Circle((x + 10, 24), 1.1, facecolor="white", edgecolor=INK, lw=1, zorder=4))
        axes.plot([x - 3.4, x - 3.4, x + 10], [24, 40.4, 40.4], color=FAINT, lw=1.2)  # the residual
        _arrow(axes, (x + 10, 40.4), (x + 10, 25.1), colour=FAINT)
    _arrow(axes, (62.9, 24), (65.3, 24))
    _arrow(axes, (79.1, 24), (81.3, 24))

    # ⑤ the tokens that come out, ⑥ the scores
    for number, y in enumerate(heights):
        _arrow(axes, (97.2, y), (99.6, y), CLS if number == 0 else FAINT, alpha=1 if number == 0 else 0.45)
        for cell, shade in enumerate(shades[::-1][number]):
            colour = CLS if number == 0 else FAINT
            alpha = shade if number == 0 else 0.25 * shade
            _box(axes, 100.2 + 1.6 * cell, y - 1.35, 1.6, 2.7, colour, alpha=alpha, rounding=0)
    _arrow(axes, (108.8, heights[0]), (112.4, heights[0]), colour=CLS)
    for row, (name, score) in enumerate(zip(words["classes"], (0.75, 0.11, 0.05, 0.02), strict=True)):
        y = heights[0] - 3.6 * row
        _write(axes, 117.6, y - 0.1, name, ha="right")
        _box(axes, 118.6, y - 1.1, 12 * score, 2.2, CLS if row == 0 else FAINT, rounding=0)

    for x, y, key in (
        (14, 12.6, "cut"),
        (45.6, 50.8, "embed"),
        (55.6, 3.2, "add"),
        (79.6, 51.2, "layers"),
        (104.2, 51, "read"),
        (121.5, 50.8, "scores"),
    ):
        _write(axes, x, y, words[key], linespacing=1.3)
    return figure


def _write(axes: Any, x: float, y: float, text: str, size: float = 11, **style: Any) -> None:
    axes.text(x, y, text, fontsize=size, **({"ha": "center", "va": "center", "color": INK} | style))


def _box(
    axes: Any, x: float, y: float, w: float, h: float, colour: str, *, rounding: float, **style: Any
) -> None:
    edge = style.pop("edge", "none")
    if rounding:
        shape = f"round,pad=0,rounding_size={rounding}"
        patch: Any = FancyBboxPatch((x, y), w, h, boxstyle=shape, facecolor=colour, edgecolor=edge, **style)
    else:
        patch = Rectangle((x, y), w, h, facecolor=colour, edgecolor="white", lw=0.7, **style)
    axes.add_patch(patch)


def _arrow(axes: Any, start: Point, end: Point, colour: str = INK, **style: Any) -> None:
    style = {"mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "zorder": 3, "lw": 1.1} | style
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", color=colour, **style))


def main() -> None:
    for lang in TEXT:
        mpl.rcParams |= {"font.sans-serif": FONTS[lang], "svg.fonttype": "path", "svg.hashsalt": "vit"}
        figure = draw(lang)
        target = HERE / "images" / ("vit.svg" if lang == "en" else f"vit_{lang}.svg")
        figure.savefig(target, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        buffer = BytesIO()
        figure.savefig(buffer, dpi=110)
        small = Image.open(buffer).convert("RGB").quantize(192, dither=Image.Dither.NONE)
        small.save(target.with_suffix(".png"), optimize=True)
        plt.close(figure)


if __name__ == "__main__":
    main()
