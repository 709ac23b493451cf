"""What the page says and shows: sentences in two languages, HTML from templates, images, errors, CSV.

Everything that is not from ``text.toml`` is escaped by jinja2: class names and file names are other people's.
Leaves out: colours and sizes (``page.css``), which piece stands where (``page``).
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..batch.tables import write_rows
from ..checkpoints.config import pair
from ..checkpoints.processors import seen_image
from ..errors import ImageError
from ..explain import METHODS as ALL_METHODS
from ..images import to_data_url
from ..pipeline import ViTPipeline
from .serving import Answer

HERE = Path(__file__).parent
#: Each sentence's English and Chinese.
TEXTS: dict[str, tuple[str, str]] = tomllib.loads((HERE / "text.toml").read_text("utf-8"))
#: A model of so few classes must name one of them, whatever it is shown: each probability says so.
FEW = 100
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
    return page.render(t=t, lang=lang, methods=METHODS, few=FEW, **said, **values)


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
        print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
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
    """The library's own line, which calls an open file ``<file NAME>``."""
    return re.sub(r"<file (.*?)>:", r"\1:", str(error))


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
    for name, side in (("given", 360), ("tiny", 88)):
        image.thumbnail((side, side))
        found[name] = to_data_url(image, "JPEG")
    return found


def table(rows: Sequence[dict[str, Any]], lang: str) -> str:
    """Many images' answers, with a link that saves them as CSV: the link itself holds the file."""
    columns = ("source", "label", "score", "index", "model")
    whys = (row["detail"] or words("en")(row["problem"]) if "problem" in row else None for row in rows)
    cells = [[*map(row.get, columns), why] for row, why in zip(rows, whys, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        write_rows(path, [*columns, "error"], cells)
        saved = base64.b64encode(path.read_bytes()).decode()
    return render("results", lang, rows=rows, saved=saved)


def card(pipe: ViTPipeline, lang: str) -> str:
    """What a loaded model is: sizes, where it is from, where it runs."""
    megabytes = sum(path.stat().st_size for path in pipe.provenance.files) / 1e6
    return render("card", lang, pipe=pipe, megabytes=megabytes, parameters=pipe.model.num_parameters())
