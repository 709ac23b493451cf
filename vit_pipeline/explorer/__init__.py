"""One image followed through a Vision Transformer on one page, which anyone can open without a network.

::

    __init__.py   explore(), and the page: its parts joined to one HTML file   ← open this first
    record.py     what the page knows: the model, or what it did with this image
    page.html.j2  page.css  text.toml    the frame, the look, every word in two languages
    js/           what the page does, in reading order: SCRIPTS

There is no bundler: the scripts are joined as they are, and share one scope. ``model.js`` computes and knows
of no page, so that it runs in a worker too. Leaves out how a decision is explained (``explain``).
"""

from __future__ import annotations

import html
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from ..files import checked_suffix, replacing, template
from ..images import source_name
from .record import record

if TYPE_CHECKING:
    from ..pipeline import ViTPipeline

HERE = Path(__file__).parent
#: what a worker runs, then what shows it
WORKER = ("model", "resize", "worker")
VIEWS = ("views-input", "views-layer", "views-head", "views-output")
SCRIPTS = ("data", "draw", *VIEWS, "change", "tour", "main")


@dataclass(frozen=True)
class Exploration:
    """The page of one image. In a notebook it shows itself, in a frame."""

    source: str  #: the image's name
    model: str  #: the model's name
    live: bool  #: the model is in the page, and can be changed there; else what it did was recorded
    page: str = field(repr=False)  #: the HTML file, complete in itself

    def save(self, path: str | Path) -> None:
        """Write the page; the name ends in ``.html``. Raises ArgumentError, OutputError."""
        checked_suffix(path, [".html"])
        with replacing(path) as partial:
            partial.write_text(self.page, "utf-8")

    def _repr_html_(self) -> str:
        size = "width:100%;height:min(1000px,92vh);border:0"
        return f'<iframe srcdoc="{html.escape(self.page)}" style="{size}" title="vit-pipeline"></iframe>'


def explore(
    image: Any,
    pipe: ViTPipeline,
    *,
    live: bool | None = None,
    lang: Literal["en", "zh"] | None = None,
    name: str | None = None,
) -> Exploration:
    """One image, followed through every step of the model, on a page that needs no network and no server.

    Args:
        image: anything that :meth:`ViTPipeline.read` takes.
        live: True puts the model into the page, so that one can change the image and the model there; False
            only what the model did with this image; None: live where the page can do it.
        lang: the language the page opens in; None: the reader's.
        name: what the page calls the image; None: by its file.

    Raises ImageError; ArgumentError where ``live`` is asked for and cannot be.
    """
    name = name or source_name(image)
    shown = name if name.startswith(("data:", "<")) else PurePath(name).name  # folders are nobody's business
    pipe = pipe.on_torch()
    data = record(pipe, pipe.preprocess(pipe.read(image)), shown or name, live)
    return Exploration(data["source"], pipe.name, data["live"], _page(data, lang))


def _page(data: dict[str, Any], lang: str | None) -> str:
    """The parts of the page, joined. Nothing in ``data`` can end the script that holds it."""
    text = tomllib.loads((HERE / "text.toml").read_text("utf-8"))
    joined = {name: "\n".join(map(_script, names)) for name, names in (("worker", WORKER), ("main", SCRIPTS))}
    packed = _json(data)
    return template(HERE / "page.html.j2").render(
        title=f"{data['source']} · {data['model']['name']}",
        lang=lang or "",
        css=(HERE / "page.css").read_text("utf-8"),
        text=_json(text),
        data=packed,
        size=f"{len(packed) / 1e6:.1f}",
        **joined,
    )


def _script(name: str) -> str:
    return (HERE / "js" / f"{name}.js").read_text("utf-8")


def _json(value: Any) -> str:
    """JSON that may stand inside ``<script>``: ``</script>`` and ``<!--`` cannot occur in it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


__all__ = ["Exploration", "explore"]
