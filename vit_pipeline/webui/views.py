"""What the page says and shows: sentences in two languages, HTML from templates, images, errors, CSV.

Everything that is not from ``text.toml`` is escaped by jinja2: class names and file names are other people's.
Leaves out: colours and sizes (``page.css``), which piece stands where (``page``).
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ..batch.tables import write_rows
from ..checkpoints.config import pair
from ..checkpoints.processors import seen_image
from ..errors import ImageError
from ..explain import METHODS as ALL_METHODS
from ..images import to_data_url
from ..pipeline import ViTPipeline
from .serving import Answer, report

HERE = Path(__file__).parent
_SAID = tomllib.loads((HERE / "text.toml").read_text("utf-8"))
#: What the library's errors say, as regular expressions, in Chinese.
DETAILS: dict[str, str] = _SAID.pop("details")
#: Each sentence's English and Chinese.
TEXTS: dict[str, tuple[str, str]] = _SAID
#: A model of so few classes must name one of them, whatever it is shown: each probability says so.
FEW = 100
TINY = 96  #: pixels of an image in a gallery, at most
#: Those maps that work with what is installed.
METHODS = [m for m in ALL_METHODS if find_spec("captum") or m not in ("occlusion", "integrated-gradients")]
_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


class NoImageError(ImageError):
    """Nothing was given to classify."""


def words(lang: str) -> Callable[..., str]:
    """The look-up for one language: ``t = words("zh"); t("too_many", limit=50)``."""

    def t(key: str, **values: object) -> str:
        text = TEXTS[key][lang == "zh"]
        return text.format(**values) if values else text

    return t


def render(template: str, lang: str, **values: Any) -> str:
    """A piece of the page, from ``templates``."""
    t = words(lang)
    page = _TEMPLATES.get_template(f"{template}.html")
    said = {"percent": percent, "probability": partial(probability, t)}
    said |= {"named": partial(named, lang), "detail": partial(detail, lang)}
    return page.render(t=t, lang=lang, methods=METHODS, few=FEW, **said, **values)


def named(lang: str, *labels: str) -> str:
    """Classes in the page's language, where their names are known in it."""
    return words(lang)("comma").join(
        TEXTS.get(f"label_{label}", (label,) * 2)[lang == "zh"] for label in labels
    )


def detail(lang: str, answer: dict[str, Any]) -> str:
    """The library's own line in the page's language, without the image's name; empty where words lack."""
    if lang == "en":
        return str(answer["detail"]).removeprefix(f"{answer.get('source')}: ")
    for said, chinese in DETAILS.items():
        if found := re.search(said, answer["detail"]):
            return found.expand(chinese)
    return ""


def message(lang: str, key: str, kind: str = "note", **values: object) -> str:
    """A sentence for the visitor, read out by screen readers."""
    return render("message", lang, kind=kind, text=words(lang)(key, **values))


def percent(score: float) -> str:
    """``75.3%``; what is not quite nothing, or not quite everything, says so."""
    if 0 < score < 0.001 or 0.999 < score < 1:
        return "<0.1%" if score < 0.5 else ">99.9%"
    return f"{score:.1%}"


def probability(t: Callable[..., str], score: float, classes: int) -> str:
    """The same, and among how few classes."""
    return t("among", percent=percent(score), count=classes) if classes <= FEW else percent(score)


def failed(error: Exception) -> dict[str, str]:
    """What went wrong, as plain data: which sentence, and the library's own line without its advice.

    The advice is for programs. What nobody foresaw is printed for the server's owner.
    """
    key = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in TEXTS)
    if key == "Exception":
        report(error)
    said = key in ("Busy", "NoImageError", "Exception")  # the sentence says it all
    return {"problem": key, "detail": "" if said else _line(error).partition("; ")[0]}


def failure(error: Exception, lang: str) -> str:
    """The same for a visitor."""
    return render("failed", lang, answer=failed(error))


def for_program(error: Exception) -> str:
    """The same for a program, in one line, with the advice."""
    key = failed(error)["problem"]
    return words("en")(key) + ("" if key in ("Busy", "Exception") else f" {_line(error)}")


def _line(error: Exception) -> str:
    """The library's own line, which calls an open file ``<file NAME>``, and paths local."""
    named = re.sub(r"<file (.*?)>:", r"\1:", str(error))
    return named.replace("is read from local files only", "is not read here")


def shown(answer: Answer, pipe: ViTPipeline) -> dict[str, Any]:
    """An answer as plain data, which the browser keeps, and the templates show in either language."""
    milliseconds = {"waited": round(answer.waited * 1e3), "took": round(answer.took * 1e3)}
    config = pipe.model.config
    counts = {"classes": len(pipe.labels), "together": answer.together}
    counts |= {"layers": config.num_hidden_layers, "heads": config.num_attention_heads}
    known = {"known": pipe.labels if len(pipe.labels) <= FEW else ()}
    return answer.prediction.to_dict() | milliseconds | counts | known


def pictured(pipe: ViTPipeline, source: Any) -> dict[str, Any]:
    """The image as given and as the model sees it, small enough for the page. Raises ImageError."""
    image = pipe.read(source)
    seen = seen_image(pipe.processor, pipe.preprocess(image))
    found = {"given_size": image.size, "seen": to_data_url(seen), "seen_size": seen.size}
    height, width = pair(pipe.model.config.patch_size)
    found |= {"patch": (width, height), "grid": (seen.width // width, seen.height // height)}
    return found | {"given": small(image, 360), "tiny": small(image)}


def small(image: Image.Image, side: int = TINY) -> str:
    """A small JPEG as a data: URL; the image itself becomes as small."""
    image.thumbnail((side, side))
    return to_data_url(image, "JPEG")


def tiny(pipe: ViTPipeline, source: Any) -> str:
    """An image for a gallery; a large JPEG is not decoded in full for it. Raises ImageError."""
    return small(pipe.read(source, draft=(TINY, TINY)))


def gallery(rows: Sequence[dict[str, Any]], lang: str, count: int = 0) -> str:
    """Many images' answers, with links that save them as CSV and JSON: the links hold the files.

    ``count``: of how many images in all it says that so many are done; 0: it says nothing.
    """
    if not rows:
        return ""
    columns = ("source", "label", "score", "index", "model", "when", "error")
    whys = (row["detail"] or words("en")(row["problem"]) if "problem" in row else None for row in rows)
    records = [row | {"error": why} for row, why in zip(rows, whys, strict=True)]
    kept = [name for name in columns if name == "error" or any(name in row for row in rows)]
    cells = [[*map(record.get, kept)] for record in records]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        write_rows(path, kept, cells)
        csv = _saved("text/csv", path.read_bytes())
    text = json.dumps([dict(zip(kept, row, strict=True)) for row in cells], ensure_ascii=False, indent=1)
    json_link = _saved("application/json", text.encode())
    return render("gallery", lang, rows=rows, count=count, csv=csv, json=json_link)


def _saved(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def card(pipe: ViTPipeline, lang: str) -> str:
    """What a loaded model is: sizes, where it is from, where it runs."""
    megabytes = sum(path.stat().st_size for path in pipe.provenance.files) / 1e6
    return render("card", lang, pipe=pipe, megabytes=megabytes, parameters=pipe.model.num_parameters())
