"""An explanation as a figure, a page, or plain data; each says how far to trust it.

Leaves out what the numbers are (``explanation``).
"""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import check_installed, printable
from ..files import checked_suffix, replacing, template
from ..images import to_data_url
from .inside import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .explanation import Explanation

Of = Mapping[str, Any]  #: layer and head, for attention
SUFFIXES = (".png", ".html", ".json", ".npz")
WEAK = dict.fromkeys(
    ("attention", "rollout"),
    "Weak evidence: it shows where CLS looks, whatever the class, and hardly beats the centre on average.",
)
_PLACES = "upper left, top, upper right, left, centre, right, lower left, bottom, lower right".split(", ")
_CHINESE = ("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei")
_OWN, _CENTRE, _RANDOM = "#c2410c", "#2563eb", "#6b7280"


def evidence(scores: Floats) -> str:
    """Which patches of a map, (rows, cols), hold what is above 0; counted from 1."""
    flat = scores.ravel().clip(0)
    if not flat.any():
        return "No patch speaks for it."
    order = np.argsort(-flat, kind="stable")
    half = int(np.searchsorted(flat[order].cumsum(), flat.sum() / 2)) + 1
    rows, cols = np.unravel_index(order, scores.shape)
    ninth = rows * 3 // scores.shape[0] * 3 + cols * 3 // scores.shape[1]
    place = _PLACES[np.bincount(ninth, flat[order]).argmax()]
    best = ", ".join(f"row {row + 1} column {col + 1}" for row, col in zip(rows[:3], cols[:3], strict=True))
    where = f"in {half} of {flat.size} patches, most of all at the {place}"
    return f"Half of the evidence is {where}; the strongest: {best}."


def title(method: str, of: Of) -> str:
    """The method's name, with the layer and the head that were chosen."""
    return ", ".join([method, *(f"{name} {number}" for name, number in of.items() if number is not None)])


def notes(e: Explanation, method: str, of: Of) -> list[str]:
    """The small print: how the map does on this image, and what it cannot show."""
    weak = [WEAK[method]] if method in WEAK else []
    if e.target is None:
        return ["No classifier, no class: how faithful the map is cannot be measured.", *weak]
    own, centre, random = e.faithfulness(method, **of), e.yardstick("centre"), e.yardstick("random")
    lines = []
    for number, what in (("gain", "Insertion − deletion"), ("saco", "SaCo")):
        values = (getattr(one, number) for one in (own, centre, random))
        this, middle, chance = (f"{value:+z.2f}".replace("-", "−") for value in values)
        lines.append(f"{what} (higher is better): map {this}, the image's centre {middle}, random {chance}.")
    if own.gain <= max(centre.gain, random.gain):
        lines.append("On this image the map explains no more than these do: do not rely on it.")
    return [*lines, *weak]


def to_dict(e: Explanation, method: str, of: Of) -> dict[str, Any]:
    """What is shown, as plain data."""
    scores = e.heatmap(method, **of)
    found = {"source": e.source, "model": e.pipe.name, "method": method, **of, "grid": e.grid}
    found |= {"heatmap": scores, "evidence": evidence(scores), "notes": notes(e, method, of)}
    if e.prediction is not None and e.target is not None:
        found |= {"target": asdict(e.target), "prediction": e.prediction.to_dict()}
        found |= {"lens": [at.to_dict() for at in e.lens]}
        found |= {"faithfulness": asdict(e.faithfulness(method, **of))}
    return found


def save(e: Explanation, path: str | Path, method: str, **options: Any) -> None:
    of: Of = {name: options[name] for name in ("layer", "head") if name in options}
    suffix = checked_suffix(path, SUFFIXES)
    with replacing(path) as partial:
        if suffix == ".png":
            e.figure(method, **options).savefig(partial, dpi=160)
        elif suffix == ".html":
            partial.write_text(page(e, method, of), "utf-8")
        elif suffix == ".json":
            text = json.dumps(to_dict(e, method, of), ensure_ascii=False, default=np.ndarray.tolist)
            partial.write_text(f"{text}\n", "utf-8")
        else:
            arrays: dict[str, Any] = {
                "heatmap": e.heatmap(method, **of),
                "attentions": e.attentions,
                "rollout": e.rollout(),
            }
            arrays |= {"attention_distance": e.attention_distance(), "image": np.asarray(e.image)}
            np.savez(partial, source=e.source, model=e.pipe.name, method=method, **arrays)


def page(e: Explanation, method: str, of: Of) -> str:
    """One HTML page, complete in itself: the map over the image, the lens, the faithfulness, every head."""
    check_installed("matplotlib", "a page")
    return template(Path(__file__).with_name("page.html.j2")).render(
        to_dict(e, method, of),
        title=title(method, of),
        image=to_data_url(e.image),
        overlay=to_data_url(_overlay(e.heatmap(method, **of))),
        heads=[[to_data_url(_overlay(head)) for head in layer] for layer in _heads(e)],
        aspect=e.image.width / e.image.height,
    )


def _heads(e: Explanation) -> Floats:
    """What CLS looks at in every head, each to its own maximum: (L, H, rows, cols)."""
    found = e.attentions[:, :, 0, 1:].reshape(*e.attentions.shape[:2], *e.grid)
    return found / found.max((2, 3), keepdims=True)  # type: ignore[no-any-return]


def _colours() -> Any:
    """A perceptual colour map, inferno, that is transparent where there is little."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    level = np.linspace(0, 1, 256)
    colours = colormaps["inferno"](0.15 + 0.85 * level)  # (256, 4)
    colours[:, 3] = 0.85 * level
    return ListedColormap(colours)


def _overlay(scores: Floats) -> Image.Image:
    return Image.fromarray(_colours()(scores.clip(0) / max(scores.max(), 1e-12), bytes=True))


def blank(width: float, height: float) -> Any:
    """An empty figure, in inches, that shows itself in a notebook, also where pyplot is not loaded."""
    check_installed("matplotlib", "a figure")
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            out = io.BytesIO()
            self.savefig(out, format="png", dpi=100)
            return out.getvalue()

    return Shown(figsize=(width, height), layout="constrained")


def finish(figure: Any) -> Any:
    """The same figure with a font for every text, Chinese ones too, where the machine has it."""
    from matplotlib.font_manager import get_font_names
    from matplotlib.text import Text

    fonts = ["DejaVu Sans", *(name for name in _CHINESE if name in get_font_names())]
    for text in figure.findobj(Text):
        text.set(fontfamily=fonts, parse_math=False)  # labels are other people's: a $ is a $
    return figure


def draw(e: Explanation, method: str, of: Of, all_heads: bool, lens: bool, faithfulness: bool) -> Figure:
    panels: dict[Any, float] = {_draw_map: 5.6}  # with its height in inches
    panels |= {_draw_heads: 1 + 0.75 * e.attentions.shape[1]} if all_heads else {}
    panels |= {_draw_lens: 0.8 + 0.28 * len(e.lens)} if lens else {}
    panels |= {_draw_curves: 3.4} if faithfulness else {}
    heights = list(panels.values())
    figure = blank(9.6, sum(heights))
    for panel, part in zip(
        panels, figure.subfigures(len(heights), 1, False, height_ratios=heights), strict=True
    ):
        panel(part[0], e, method, of)
    return finish(figure)  # type: ignore[no-any-return]


def _draw_map(part: Any, e: Explanation, method: str, of: Of) -> None:
    scores = e.heatmap(method, **of)
    left, right, legend = part.subplots(1, 3, width_ratios=(1, 1, 0.03))
    size = {"extent": (0, *e.image.size, 0)}
    left.imshow(e.image, **size)
    left.set_title("the image as the model saw it", fontsize=11)
    right.imshow(e.image.convert("L"), cmap="gray", vmin=-80, vmax=300, **size)
    covered = (0, e.grid[1] * e.patch[1], e.grid[0] * e.patch[0], 0)
    shown = right.imshow(scores, cmap=_colours(), vmin=0, vmax=max(scores.max(), 1e-12), extent=covered)
    right.set(xlim=left.get_xlim(), ylim=left.get_ylim())
    right.set_title(title(method, of), fontsize=11)
    left.set_axis_off()
    right.set_axis_off()
    part.colorbar(shown, cax=legend, ticks=[0, shown.norm.vmax]).set_ticklabels(["none", "most"])
    said = f"{printable(e.target.label, 60)}  {e.target.score:.1%}" if e.target else printable(e.source, 60)
    part.suptitle(said, fontsize=18, fontweight="bold")
    small = [textwrap.fill(line, 140) for line in (evidence(scores), *notes(e, method, of))]
    part.supxlabel("\n".join(small), fontsize=8.5, color="#444")


def _draw_heads(part: Any, e: Explanation, method: str, of: Of) -> None:
    maps = np.pad(_heads(e), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)  # a gap between heads
    layers, heads, height, width = maps.shape
    axes = part.subplots()
    axes.imshow(maps.transpose(1, 2, 0, 3).reshape(heads * height, layers * width), cmap="inferno")
    axes.set_yticks(np.arange(heads) * height + height / 2 - 1, map(str, range(heads)))
    axes.set_xticks(np.arange(layers) * width + width / 2 - 1, map(str, range(layers)))
    axes.set(xlabel="layer", ylabel="head")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("what CLS looks at in every head", fontsize=11)


def _draw_lens(part: Any, e: Explanation, method: str, of: Of) -> None:
    axes = part.subplots()
    for layer, at in enumerate(e.lens):
        axes.barh(layer, at.score, 0.7, color=_OWN if at.index == e.lens[-1].index else _RANDOM)
        axes.text(at.score + 0.01, layer, f"{printable(at.label, 40)}  {at.score:.1%}", va="center")
    axes.set_yticks(range(len(e.lens)), ["embeddings", *(f"layer {i}" for i in range(len(e.lens) - 1))])
    axes.set(xlim=(0, 1.25), xticks=[], ylim=(len(e.lens) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("what the model would have said after each layer", fontsize=11)


def _draw_curves(part: Any, e: Explanation, method: str, of: Of) -> None:
    lines = (
        (e.faithfulness(method, **of), _OWN),
        (e.yardstick("centre"), _CENTRE),
        (e.yardstick("random"), _RANDOM),
    )
    for axes, which, better in zip(
        part.subplots(1, 2), ("deletion", "insertion"), ("lower", "higher"), strict=True
    ):
        for one, colour in lines:
            curve, area = getattr(one, which), getattr(one, f"{which}_auc")
            axes.plot(np.linspace(0, 100, len(curve)), curve, color=colour, label=f"{one.method}  {area:.2f}")
        axes.set(ylim=(0, 1), xlabel="% of the patches", ylabel="probability of the class")
        axes.set_title(f"{which}: {better} is better", fontsize=11)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
