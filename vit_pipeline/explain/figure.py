"""An explanation as a figure, a page, or plain data; each says how far to trust it.

Leaves out how the numbers are computed (``explanation``).
"""

from __future__ import annotations

import base64
import io
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ..errors import ArgumentError, check_installed, printable
from ..files import replacing
from .inside import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from .explanation import Explanation

SUFFIXES = (".png", ".html", ".json", ".npz")
WEAK = (
    "Weak evidence: this map shows where the CLS token looks, whatever the class; on average such maps hardly "
    "beat the image's centre."
)
_PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "centre", "right"),
    ("lower left", "bottom", "lower right"),
)
_CHINESE = ("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei")
_COLOURS = {"map": "#c2410c", "centre": "#2563eb", "random": "#6b7280"}


def evidence(scores: Floats) -> str:
    """Which patches hold the positive part of a map, (rows, cols), in words."""
    flat = scores.ravel().clip(0)
    if not flat.any():
        return "No patch speaks for it."
    order = np.argsort(-flat, kind="stable")
    half = int(np.searchsorted(np.cumsum(flat[order]), flat.sum() / 2)) + 1
    rows, cols = np.unravel_index(order, scores.shape)
    row, col = (int(np.mean(i[:half]) * 3 / n) for i, n in zip((rows, cols), scores.shape, strict=True))
    strongest = ", ".join(f"row {r + 1} column {c + 1}" for r, c in zip(rows[:3], cols[:3], strict=True))
    few = f"Half of it lies in {half} of {flat.size} patches"
    return f"{few}, around the {_PLACES[row][col]} of the image. The strongest: {strongest}."


def notes(e: Explanation, method: str, layer: int, head: int | None) -> list[str]:
    """The small print: how the map did on this image, and what it cannot show."""
    lines = []
    if e.target is None:
        lines.append(
            "A backbone without a classifier: there is no class, so faithfulness cannot be measured."
        )
    else:
        own = e.faithfulness(method, layer=layer, head=head)
        assert own.random is not None and own.centre is not None
        rows = (("insertion − deletion", "gain"), ("SaCo", "saco"))
        for what, number in rows:
            numbers = (getattr(one, number) for one in (own, own.centre, own.random))
            this, centre, random = (f"{value:+z.2f}".replace("-", "−") for value in numbers)
            lines.append(
                f"{what}, higher is better: this map {this}, the image's centre {centre}, random {random}."
            )
        if own.gain <= max(own.centre.gain, own.random.gain):
            lines.append("Here the map explains no more than these do: do not rely on it.")
    return [*lines, WEAK] if method in ("attention", "rollout") else lines


def to_dict(e: Explanation, method: str, layer: int, head: int | None) -> dict[str, Any]:
    """All that is shown of it, as plain data."""
    scores = e.heatmap(method, layer=layer, head=head)
    of = {"layer": layer, "head": head} if method == "attention" else {}
    record = {"source": e.source, "model": e.pipe.name, "method": method, **of}
    record |= {"grid": list(e.grid), "heatmap": scores.tolist(), "evidence": evidence(scores)}
    record |= {"notes": notes(e, method, layer, head)}
    if e.prediction is not None:
        record |= {"target": {"label": e.label, "score": e.probability, "index": e.target}}
        record |= {"prediction": e.prediction.to_dict(), "lens": [at.to_dict() for at in e.lens]}
        record |= {"faithfulness": e.faithfulness(method, layer=layer, head=head).to_dict()}
    return record


def save(
    e: Explanation, path: str | Path, method: str, *, layer: int = -1, head: int | None = None, **panels: bool
) -> None:
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"{path}: the name must end in {', '.join(SUFFIXES)}")
    with replacing(path) as partial:
        if suffix == ".png":
            draw(e, method, layer, head, **panels).savefig(partial, dpi=160)
        elif suffix == ".html":
            partial.write_text(page(e, method, layer, head), "utf-8")
        elif suffix == ".json":
            partial.write_text(
                json.dumps(to_dict(e, method, layer, head), ensure_ascii=False) + "\n", "utf-8"
            )
        else:
            arrays = {"heatmap": e.heatmap(method, layer=layer, head=head), "attentions": e.attentions}
            arrays |= {"rollout": e.rollout(), "attention_distance": e.attention_distance()}
            np.savez(partial, image=np.asarray(e.image), source=e.source, method=method, **arrays)


def overlay(scores: Floats, strongest: float | None = None) -> Any:
    """(rows, cols) → RGBA in uint8, (rows, cols, 4): inferno, transparent where there is little evidence."""
    top = scores.max() if strongest is None else strongest
    return _colours()(scores.clip(0) / (top if top > 0 else 1), bytes=True)


def _colours() -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    level = np.linspace(0, 1, 256)
    colours = colormaps["inferno"](0.15 + 0.85 * level)  # (256, 4)
    colours[:, 3] = 0.8 * level**0.8
    return ListedColormap(colours)


def draw(
    e: Explanation,
    method: str,
    layer: int,
    head: int | None,
    *,
    all_heads: bool = False,
    lens: bool = False,
    faithfulness: bool = False,
) -> Figure:
    check_installed("matplotlib", "a figure")
    from matplotlib.figure import Figure
    from matplotlib.font_manager import get_font_names
    from matplotlib.text import Text

    class Shown(Figure):
        """Seen in a notebook where pyplot is not loaded, too."""

        def _repr_png_(self) -> bytes:
            out = io.BytesIO()
            self.savefig(out, format="png", dpi=100)
            return out.getvalue()

    panels = []
    if all_heads:
        panels.append((_heads, 0.6 + 0.55 * e.attentions.shape[0]))
    if lens:
        panels.append((_lens, 0.8 + 0.28 * len(e.lens)))
    if faithfulness:
        panels.append((lambda e, part: _curves(e, part, method, layer, head), 3.4))
    heights = [5.6, *(height for _, height in panels)]
    figure = Shown(figsize=(9.6, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _maps(e, parts[0], method, layer, head)
    for (panel, _), part in zip(panels, parts[1:], strict=True):
        panel(e, part)
    fonts = ["DejaVu Sans", *(name for name in _CHINESE if name in get_font_names())]
    for text in figure.findobj(Text):
        text.set(fontfamily=fonts, parse_math=False)  # labels are other people's: no $ is meant
    return figure


def _maps(e: Explanation, part: SubFigure, method: str, layer: int, head: int | None) -> None:
    scores = e.heatmap(method, layer=layer, head=head)
    left, right = part.subplots(1, 2)
    extent = (0, e.grid[1] * e.patch[1], e.grid[0] * e.patch[0], 0)
    left.imshow(e.image, extent=(0, *e.image.size, 0))
    left.set_title("the image as the model saw it", fontsize=11)
    right.imshow(e.image.convert("L"), cmap="gray", vmin=-80, vmax=300, extent=(0, *e.image.size, 0))
    shown = right.imshow(scores, cmap=_colours(), vmin=0, vmax=max(float(scores.max()), 1e-9), extent=extent)
    right.set(xlim=left.get_xlim(), ylim=left.get_ylim())
    right.set_title(titled(method, layer, head), fontsize=11)
    for axes in (left, right):
        axes.set_axis_off()
    bar = part.colorbar(shown, ax=right, ticks=[0, shown.norm.vmax], shrink=0.6, pad=0.02)
    bar.ax.set_yticklabels(["none", "most"], fontsize=8)
    bar.outline.set_visible(False)
    if e.target is None:
        what = printable(e.source, 80)
    else:
        what = f"{printable(e.label, 60)}  {e.probability:.1%}"
    part.suptitle(what, fontsize=18, fontweight="bold")
    small = [evidence(scores), *notes(e, method, layer, head)]
    part.supxlabel("\n".join(textwrap.fill(line, 150) for line in small), fontsize=8, color="#444")


def titled(method: str, layer: int, head: int | None) -> str:
    """The method's name, with the layer and the head of an attention map."""
    if method != "attention":
        return method
    of = "last layer" if layer == -1 else f"layer {layer}"
    return f"attention, {of}, {'mean of its heads' if head is None else f'head {head}'}"


def _heads(e: Explanation, part: SubFigure) -> None:
    """Every head's map, each to its own maximum, layers down and heads across."""
    layers, heads = e.attentions.shape[:2]
    maps = e.attentions[:, :, 0, 1:].reshape(layers, heads, *e.grid)
    maps = maps / maps.max((2, 3), keepdims=True)
    gap = np.pad(maps, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)  # (L, H, rows + 1, cols + 1)
    height, width = gap.shape[2:]
    axes = part.subplots()
    axes.imshow(gap.transpose(0, 2, 1, 3).reshape(layers * height, heads * width), cmap="inferno")
    axes.set_yticks(np.arange(layers) * height + e.grid[0] / 2 - 0.5, range(layers))
    axes.set_xticks(np.arange(heads) * width + e.grid[1] / 2 - 0.5, range(heads))
    axes.set(xlabel="head", ylabel="layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("what CLS looks at, in every head", fontsize=11)


def _lens(e: Explanation, part: SubFigure) -> None:
    axes = part.subplots()
    for layer, at in enumerate(e.lens):
        same = at.index == e.lens[-1].index
        axes.barh(layer, at.score, height=0.7, color=_COLOURS["map" if same else "random"])
        axes.text(
            at.score + 0.01, layer, f"{printable(at.label, 40)}  {at.score:.1%}", va="center", fontsize=9
        )
    axes.set_yticks(
        range(len(e.lens)), ["embeddings", *(f"layer {i}" for i in range(len(e.lens) - 1))], fontsize=9
    )
    axes.set(xlim=(0, 1.25), xticks=[], ylim=(len(e.lens) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title("what the model would have said after each layer", fontsize=11)


def _curves(e: Explanation, part: SubFigure, method: str, layer: int, head: int | None) -> None:
    own = e.faithfulness(method, layer=layer, head=head)
    for axes, which, better in zip(
        part.subplots(1, 2), ("deletion", "insertion"), ("lower", "higher"), strict=True
    ):
        for name, one in {"map": own, "centre": own.centre, "random": own.random}.items():
            curve = getattr(one, which)
            label = method if name == "map" else name
            label = f"{label}  {getattr(one, f'{which}_auc'):.2f}"
            axes.plot(np.linspace(0, 100, len(curve)), curve, color=_COLOURS[name], label=label)
        axes.set(ylim=(0, 1), xlabel="% of the patches", ylabel=f"probability of {printable(e.label, 30)}")
        axes.set_title(f"{which}: {better} is better", fontsize=11)
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)


def page(e: Explanation, method: str, layer: int, head: int | None) -> str:
    """One HTML page, complete in itself: the image, the map over it, the lens, the faithfulness, every head."""
    check_installed("matplotlib", "a page")
    maps = e.attentions[:, :, 0, 1:].reshape(*e.attentions.shape[:2], *e.grid)  # (L, H, rows, cols)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        to_dict(e, method, layer, head),
        title=titled(method, layer, head),
        image=data_url(e.image),
        overlay=data_url(Image.fromarray(overlay(e.heatmap(method, layer=layer, head=head)))),
        heads=[[data_url(Image.fromarray(overlay(one))) for one in heads] for heads in maps],
        aspect=e.image.width / e.image.height,
    )


def data_url(image: Image.Image) -> str:
    """An image as text that stands in the page itself."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
