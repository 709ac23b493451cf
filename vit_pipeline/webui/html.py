"""The pieces of the page that are drawn as HTML: answer, history, table, model card, progress, messages.

Everything that is not from ``text`` is escaped here: class names and file names are other people's.
Leaves out: colours and sizes (``page.css``), which piece stands where (``page``).
"""

from __future__ import annotations

import base64
import csv
import io
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ..names import KNOWN_MODELS
from .text import Language, texts

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..pipeline import Prediction, ViTPipeline
    from .model_pool import Loaded
    from .sessions import Shown

Text = Callable[..., str]
STEPS = ("read", "preprocess", "forward", "postprocess")


def message(text: str, detail: str = "", *, kind: str = "error") -> str:
    """A sentence for the visitor, read out by screen readers; ``detail`` is the library's own line."""
    role = "alert" if kind == "error" else "status"
    more = f'<span class="vp-detail" lang="en">{escape(detail)}</span>' if detail else ""
    return f'<div class="vp-message vp-{kind}" role="{role}"><strong>{escape(text)}</strong>{more}</div>'


def empty(text: str) -> str:
    """What stands where an answer will be."""
    return f'<div class="vp-empty">{escape(text)}</div>'


def answer(shown: Shown, lang: Language) -> str:
    """The predicted class, bars for the likeliest ones, the image as the model saw it, the times."""
    t = texts(lang)
    best = shown.prediction
    bars = "".join(
        f'<li><span class="vp-label">{escape(entry.label)}</span>'
        f'<span class="vp-score">{escape(percent(entry.score))}</span>'
        f'<span class="vp-track"><span class="vp-bar" style="width:{entry.score:.2%}"></span></span></li>'
        for entry in best.top
    )
    return (
        f'<section class="vp-answer" role="status">'
        f'<h2 class="vp-class"><span>{t("predicted")}{"：" if lang == "zh" else ": "}</span>'
        f"{escape(best.label)}</h2>"
        f'<p class="vp-note">{t("sure", percent=escape(percent(best.score)))} · '
        f"{escape(t('by_model', model=best.model))} · {escape(best.source)}</p>"
        f'<h3>{t("top_classes")}</h3><ol class="vp-bars">{bars}</ol>'
        f'<div class="vp-images">{_given(shown, t)}{_seen(shown, t)}</div>'
        f"{_times(shown, t)}</section>"
    )


def _given(shown: Shown, t: Text) -> str:
    width, height = shown.given_size
    return (
        f'<figure><div class="vp-frame"><img src="{shown.given}" alt="{t("given")}"></div>'
        f"<figcaption>{t('given')}<small>{t('pixels', w=width, h=height)}</small></figcaption></figure>"
    )


def _seen(shown: Shown, t: Text) -> str:
    """The model's input, with the lines along which it is cut into patches."""
    width, height = shown.seen_size
    columns, rows = (width // shown.patch, height // shown.patch) if shown.patch else (1, 1)
    caption = t("pixels", w=width, h=height)
    if shown.patch:
        caption = t("seen_caption", w=width, h=height, columns=columns, rows=rows, patch=shown.patch)
    style = f"--columns:{columns};--rows:{rows};aspect-ratio:{width}/{height}"
    kind = " vp-pixels" if width < 128 else ""
    return (
        f'<figure><div class="vp-frame"><div class="vp-patches{kind}" style="{style}">'
        f'<img src="{shown.seen}" alt="{t("seen")}"></div></div>'
        f"<figcaption>{t('seen')}<small>{caption}</small></figcaption></figure>"
    )


def _times(shown: Shown, t: Text) -> str:
    whole = sum(shown.seconds.values()) or 1.0
    parts = "".join(
        f'<span class="vp-part vp-{step}" style="flex-grow:{shown.seconds[step] / whole:.4f}"></span>'
        for step in STEPS
    )
    legend = "".join(
        f'<li><span class="vp-dot vp-{step}"></span>{t(step)} '
        f"<b>{t('milliseconds', ms=_ms(shown.seconds[step]))}</b></li>"
        for step in STEPS
    )
    note = f'<p class="vp-note">{t("together", others=shown.batch - 1)}</p>' if shown.batch > 1 else ""
    return (
        f'<h3>{t("times")}</h3><div class="vp-timeline" aria-hidden="true">{parts}</div>'
        f'<ul class="vp-legend">{legend}</ul>{note}'
    )


def table(rows: Sequence[tuple[str, Prediction | str]], lang: Language) -> str:
    """Many images: (name, prediction or why there is none); with a link that saves it as CSV."""
    t = texts(lang)
    done = sum(not isinstance(result, str) for _, result in rows)
    body = "".join(
        f'<tr><td>{escape(name)}</td><td colspan="2" class="vp-bad" lang="en">{escape(result)}</td></tr>'
        if isinstance(result, str)
        else f"<tr><td>{escape(name)}</td><td>{escape(result.label)}</td>"
        f'<td class="vp-number">{escape(percent(result.score))}</td></tr>'
        for name, result in rows
    )
    head = _headings(t, ("col_file", "col_class", "col_score"))
    data = base64.b64encode(_csv(rows)).decode()
    return (
        f'<div class="vp-above"><span role="status">{t("summary", done=done, count=len(rows))}</span>'
        f'<a class="vp-button" download="predictions.csv" href="data:text/csv;base64,{data}">'
        f"{t('download_csv')}</a></div>"
        f'<div class="vp-scroll" tabindex="0"><table class="vp-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _headings(t: Text, keys: Sequence[str]) -> str:
    kinds = {"col_score": ' class="vp-number"'}
    return "".join(f'<th scope="col"{kinds.get(key, "")}>{t(key)}</th>' for key in keys)


def _csv(rows: Sequence[tuple[str, Prediction | str]]) -> bytes:
    """UTF-8 with a byte-order mark, as spreadsheets want it; no cell is taken for a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["source", "label", "score", "index", "model", "error"])
    for name, result in rows:
        cells = (
            [name, "", "", "", "", result]
            if isinstance(result, str)
            else [name, result.label, result.score, result.index, result.model, ""]
        )
        writer.writerow(
            [f"'{c}" if isinstance(c, str) and c.startswith(tuple("=+-@\t\r")) else c for c in cells]
        )
    return out.getvalue().encode("utf-8-sig")


def history(entries: Sequence[Shown], lang: Language) -> str:
    """What the visitor has classified so far, the newest first."""
    t = texts(lang)
    if not entries:
        return empty(t("history_empty"))
    body = "".join(
        f'<tr><td><img src="{shown.given}" alt=""></td><td>{escape(shown.prediction.label)}</td>'
        f'<td class="vp-number">{escape(percent(shown.prediction.score))}</td>'
        f"<td>{escape(shown.prediction.source)}</td><td>{escape(shown.prediction.model)}</td>"
        f"<td>{time.strftime('%H:%M:%S', time.localtime(shown.when))}</td></tr>"
        for shown in reversed(entries)
    )
    head = "<th></th>" + _headings(t, ("col_class", "col_score", "col_file", "col_model", "col_when"))
    return (
        f'<div class="vp-scroll" tabindex="0"><table class="vp-table vp-history">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def card(loaded: Loaded, lang: Language) -> str:
    """What a loaded model is: sizes, where it is from, where it runs."""
    t = texts(lang)
    pipe = loaded.pipe
    origin, config = pipe.provenance, pipe.model.config
    source = t(f"source_{origin.source}") if origin.source in ("embedded", "folder") else origin.source
    size = sum(path.stat().st_size for path in origin.files)
    rows = {
        "card_parameters": f"{sum(p.numel() for p in pipe.model.parameters()):,}",
        "card_input": t("pixels", w=config.image_size, h=config.image_size),
        "card_classes": f"{len(pipe.labels):,}",
        "card_size": f"{size / 1e6:,.1f} MB",
        "card_source": f"{source} {origin.repo}" if origin.repo else source,
        "card_revision": origin.revision or t("none"),
        "card_device": str(pipe.device),
        "card_dtype": str(pipe.dtype).removeprefix("torch."),
        "card_load_time": t("seconds", s=f"{loaded.seconds:.2f}"),
    }
    cells = "".join(f"<div><dt>{t(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in rows.items())
    classes = "".join(f"<li>{escape(label)}</li>" for label in pipe.labels)
    return (
        f'<section class="vp-card"><p class="vp-kicker">{t("in_use")}</p><h2>{escape(loaded.name)}</h2>'
        f"<dl>{cells}</dl><details{' open' if len(pipe.labels) <= 20 else ''}>"
        f"<summary>{t('class_list', count=f'{len(pipe.labels):,}')}</summary>"
        f'<ul class="vp-classes">{classes}</ul></details></section>'
    )


def badge(loaded: Loaded, lang: Language) -> str:
    """The model in use, in one line, for the top of the page."""
    return f'<p class="vp-badge">{texts(lang)("in_use")} <b>{escape(loaded.name)}</b></p>'


def about_models(lang: Language) -> str:
    """What the short names stand for."""
    t = texts(lang)
    entries = "".join(f"<div><dt>{name}</dt><dd>{t(f'about_{name}')}</dd></div>" for name in KNOWN_MODELS)
    return f'<dl class="vp-models">{entries}</dl>'


def progress(text: str, done: int = 0, total: int = 0) -> str:
    """A bar: how much of ``total`` bytes is there; one that only moves where the total is not known."""
    if not total:
        return (
            f'<div class="vp-progress" role="status"><p>{escape(text)}</p>'
            '<div class="vp-track"><div class="vp-moving"></div></div></div>'
        )
    share = min(done / total, 1.0)
    return (
        f'<div class="vp-progress" role="status"><p>{escape(text)} '
        f"<b>{done / 1e6:,.1f} / {total / 1e6:,.1f} MB</b></p>"
        f'<div class="vp-track" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share * 100:.0f}"><div class="vp-bar" style="width:{share:.1%}"></div></div></div>'
    )


def seen_image(pipe: ViTPipeline, pixel_values: torch.Tensor) -> Image.Image:
    """The model's input, made an image again: (1, 3, H, W) → RGB, normalisation and rescaling undone."""
    import torch
    from PIL import Image

    pixels = pixel_values[0].float().cpu()  # (3, H, W)
    processor: Any = pipe.processor
    if getattr(processor, "do_normalize", False):
        mean, std = (
            torch.tensor(list(v)).view(-1, 1, 1) for v in (processor.image_mean, processor.image_std)
        )
        pixels = pixels * std + mean
    if getattr(processor, "do_rescale", True):
        pixels = pixels / processor.rescale_factor
    pixels = pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)  # (H, W, 3)
    return Image.fromarray(pixels.numpy())


def data_url(image: Image.Image, kind: str = "PNG") -> str:
    """An image as text that stands in the page itself."""
    out = io.BytesIO()
    image.save(out, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def percent(score: float) -> str:
    """``98.3%``; what is not quite nothing, and not quite everything, says so."""
    if 0.999 < score < 1:
        return ">99.9%"
    return f"{score:.1%}" if score >= 0.001 or score == 0 else "<0.1%"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"
