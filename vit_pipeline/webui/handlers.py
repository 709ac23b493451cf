"""What happens when a visitor does something: functions from the page's inputs to the page's outputs.

They use the public API only, and run on the server's event loop: what takes time is awaited. The server keeps
nothing of a visitor: language, model, last answer and history stand in the page and come with each request.
Leaves out: where inputs and outputs stand (``page``), how outputs look (``views``).
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import ArgumentError, ImageError, UnsafeURLError
from ..explain import METHODS
from ..explorer import explore
from ..fetch import fetch
from ..fetch.urls import is_url, without_password
from ..images import MAX_BYTES, decode_data_url
from ..names import KNOWN_MODELS
from ..pipeline import ViTPipeline
from ..structure import ModelStructure, describe
from . import views
from .inside import Insides
from .serving import Busy, ModelPool, Places, Worker

MAX_FILES, MAX_TOP_K, MAX_HISTORY = 50, 10, 30
#: Images that may wait for somebody else's server, and structures for being drawn.
MAX_FETCHES, MAX_DRAWINGS = 8, 8
TABS = ("classify", "model", "structure", "explorer", "api")
_PROGRESS = gr.Progress()  # as a default, it asks Gradio for one that reports to the page
Data = dict[str, Any]  # an answer; or a file as Gradio sends it: path, orig_name, …


class Handlers:
    """The functions behind the page, and what all its visitors share."""

    def __init__(self, models: ModelPool, worker: Worker) -> None:
        self.models, self.worker, self.insides = models, worker, Insides()
        self.login = False  #: whether visitors had to give a password
        self._fetches, self._drawings = Places(MAX_FETCHES), Places(MAX_DRAWINGS)
        self._two = asyncio.Semaphore(2)  # images decoded for the page at a time: they may be large

    async def visit(self, opened: Data) -> tuple[Any, ...]:
        """The page is opened → what its address says: language, model, tab, number of classes.

        An address loads no model, since anyone can make a visitor follow a link: the page asks.
        """
        lang = "zh" if (opened.get("lang") or opened["language"])[:2].lower() == "zh" else "en"
        tab, number = opened.get("tab"), opened.get("top_k", "")
        used = wanted = opened.get("model") or self.models.start.name
        status = ""
        if self.models.find(wanted) is None:
            used, tab = self.models.start.name, "model"
            known = self.models.open or wanted in self.models.choices
            status = views.message(lang, "not_loaded" if known else "not_there", model=wanted, used=used)
        choice = wanted if wanted in self.models.choices else used
        top_k = _whole(int(number), MAX_TOP_K) if number.isdecimal() and len(number) < 3 else 5
        return lang, used, choice, gr.update(selected=tab if tab in TABS else TABS[0]), top_k, status, opened

    def pieces(self, lang: str, name: str, opened: Data) -> dict[str, str]:
        """The pieces of the page that no image changes, by their names on the ``page``."""
        names = ("header", "badge", "notice", "hint", "camera", "about", "intro", "explorer", "api")
        values = {"name": name, "names": KNOWN_MODELS, "origin": opened["origin"]}
        values |= {"login": self.login, "most": MAX_BYTES}
        pieces = {piece: views.render(piece, lang, **values) for piece in names}
        pipe = self.models.find(name)
        card = views.card(pipe, lang) if pipe else views.message(lang, "not_in_memory", model=name)
        return pieces | {"card": card}

    # What images were found to be, as shown. Both are called after whatever changes it, with what the page
    # holds by then: so nothing on the page can be older than that, or in another language.

    async def answers(
        self, lang: str, answer: Data | None, pair: list[Data], past: list[Data]
    ) -> tuple[str, ...]:
        """One image's answer, the comparison, the history."""
        shown = views.render("answer", lang, answer=answer) if answer else ""
        given = (answer or {}).get("given")
        old = any("problem" not in one and one["given"] != given for one in pair)
        compared = views.render("pair", lang, pair=pair) if pair and not old else ""
        return shown, compared, views.gallery(past, lang)

    async def results(self, lang: str, found: Data | None) -> str:
        """Several images' answers, and what went wrong with all of them."""
        if not found:
            return ""
        notes = views.message(lang, "too_many", limit=MAX_FILES) if found["too_many"] else ""
        notes += views.render("failed", lang, answer=found) if "problem" in found else ""
        return notes + views.gallery(found["rows"], lang, found["count"])

    # Classify

    async def classify_image(self, image: Data | None, url: str, *given: Any) -> Any:
        """An image was chosen, or taken away → answer, history, URL; what a URL gave has no image here."""
        if not image:
            return gr.skip() if url else None, gr.skip(), gr.skip()
        return (*await self.classify(image, "", *given), "")

    async def classify_url(self, url: str, *given: Any) -> Any:
        """A URL was given → answer, history, and an empty image box."""
        return *await self.classify(None, url, *given), None

    async def classify(
        self, image: Data | None, url: str, lang: str, name: str, top_k: float, past: list[Data]
    ) -> tuple[Any, ...]:
        """The button → answer and history, as data."""
        try:
            answer = await self._answer(await self._model(name, lang), image, url, top_k)
        except Exception as error:
            return views.failed(error), gr.skip()
        answer["when"] = time.strftime("%H:%M:%S")
        kept = ("label", "score", "index", "classes", "source", "model", "tiny", "when")
        return answer, [{key: answer[key] for key in kept}, *past][:MAX_HISTORY]

    async def compare(self, image: Data | None, url: str, name: str, other: str, top_k: float) -> list[Data]:
        """The page's image → what two models make of it, as data: bars, where the evidence is, cost."""
        return [await self._seen_by(each, image, url, top_k) for each in (name, (other or "").strip())]

    async def _seen_by(self, name: str, image: Data | None, url: str, top_k: float) -> Data:
        try:
            pipe = await self.models.get(name)
            answer = await self._answer(pipe, image, url, top_k)
            asked = {"image": answer["seen"], "target": answer["index"], "method": METHODS[0]}
            scores = (await self.insides.look(pipe, "en", asked))["map"]
            structure = await self._describe(pipe, "en", None)
        except Exception as error:
            return views.failed(error) | {"model": name}
        most = max(*scores, 1e-12)
        cost = {"parameters": structure.params, "macs": structure.cost.macs}
        return answer | cost | {"map": [max(s, 0) / most for s in scores]}

    async def _answer(self, pipe: ViTPipeline, image: Data | None, url: str, top_k: float) -> Data:
        """One image's answer as data, with the image as given and as seen."""
        file = await self._open(pipe, image, url)
        found = await self.worker.ask(pipe, file, _whole(top_k, MAX_TOP_K))
        async with self._two:
            return views.shown(found, pipe) | await asyncio.to_thread(views.pictured, pipe, file.getvalue())

    async def inside(self, asked: Any) -> Data:
        """What the answer's card asks for; what went wrong stands in ``problem``."""
        asked = asked if isinstance(asked, dict) else {}
        lang = str(asked.get("lang"))
        try:
            return await self.insides.look(await self.models.get(str(asked.get("model"))), lang, asked)
        except Exception as error:
            return {"problem": views.failure(error, lang)}

    async def frame(self, asked: Any) -> Data:
        """One image of the camera → its bars; the page sends no other until it has them. Nothing is kept."""
        asked = asked if isinstance(asked, dict) else {}
        lang = str(asked.get("lang"))
        try:
            pipe = await self.models.get(str(asked.get("model") or ""))
            image = io.BytesIO(decode_data_url(str(asked.get("image"))))
            image.name = "camera"
            found = await self.worker.ask(pipe, image, 3)
        except Exception as error:
            return {"said": views.failure(error, lang), "problem": True}
        return {"said": views.render("frame", lang, one=views.shown(found, pipe))}

    async def classify_files(
        self, files: list[Data] | None, lang: str, name: str
    ) -> AsyncIterator[tuple[str, Data]]:
        """Several files → a gallery that fills, as shown and as data."""
        files, too_many = (files or [])[:MAX_FILES], len(files or []) > MAX_FILES
        found: Data = {"rows": [], "count": len(files), "too_many": too_many}
        try:
            pipe = await self._model(name, lang)
            for start in range(0, len(files), 5):
                rows = await asyncio.gather(*(self._row(pipe, file) for file in files[start : start + 5]))
                found = found | {"rows": [*found["rows"], *rows]}
                yield await self.results(lang, found), found
            if not files:
                raise views.NoImageError("no image")
        except Exception as error:
            found = found | views.failed(error)
            yield await self.results(lang, found), found

    async def _row(self, pipe: ViTPipeline, file: Data) -> Data:
        for _ in range(150):  # one of many images: it steps back for others for up to half a minute
            try:
                image = await self._open(pipe, file, "")
                answer = views.shown(await self.worker.ask(pipe, image, 1), pipe)
                async with self._two:
                    return answer | {"tiny": await asyncio.to_thread(views.tiny, pipe, image.getvalue())}
            except Exception as error:
                answer = views.failed(error) | {"source": _name(file)}
                if not isinstance(error, Busy):
                    break
                await asyncio.sleep(0.2)
        return answer

    async def _model(self, name: str, lang: str) -> ViTPipeline:
        """The page's model; the visitor is told if it had to make room for others' and is loaded again."""
        if self.models.find(name) is None and name in self.models.choices:
            gr.Info(views.words(lang)("loading_again", model=name), title=name)
        return await self.models.get(name)

    async def _open(self, pipe: ViTPipeline, image: Data | None, url: str) -> io.BytesIO:
        """An upload, or what a URL gives, as an open file with a name: it is read as a stranger's image.

        What a visitor typed is a URL or nothing: never a path on the server.
        """
        if image and not isinstance(image, dict):
            raise ImageError(f"image is {image!r:.60}; give a file as image=handle_file(…)")
        name = _name(image) if image else without_password(str(url).strip())
        if image:
            try:
                content = Path(image["path"]).read_bytes()
            except OSError as error:
                raise ImageError(f"{name}: the upload is gone; give it again") from error
        elif not name:
            raise views.NoImageError("no image; give a file as image=handle_file(…), or an address as url=…")
        elif not is_url(url):
            raise UnsafeURLError(f"{name}: not an address; it must look like https://host/image.jpg")
        else:
            private, proxy = pipe.reading.get("allow_private", False), pipe.reading.get("proxy")
            with self._fetches:
                content = await asyncio.to_thread(fetch, url.strip(), allow_private=private, proxy=proxy)
        file = io.BytesIO(content)
        file.name = name  # as messages and predictions call it
        return file

    # Load model

    async def load(
        self, wanted: str | None, lang: str, name: str, progress: gr.Progress = _PROGRESS
    ) -> tuple[Any, ...]:
        """A model was asked for → what came of it, the model in use, its badge, its card."""
        t, wanted = views.words(lang), (wanted or "").strip()
        progress(0, desc=t("waiting_turn" if self.models.places.taken else "loading", model=wanted))

        def report(file: str, done: int, total: int) -> None:
            megabytes = (round(done / 1e6, 1), round(total / 1e6, 1))
            progress(megabytes, desc=t("downloading" if done < total else "checking", file=file), unit="MB")

        try:
            pipe = await self.models.get(wanted, report)
        except Exception as error:
            why = views.failure(error, lang) + views.message(lang, "kept", model=name)
            return why, gr.skip(), gr.skip(), gr.skip()
        done = views.message(lang, "loaded", "good", model=pipe.name)
        return done, pipe.name, views.render("badge", lang, name=pipe.name), views.card(pipe, lang)

    # Structure

    async def structure(self, lang: str, name: str, trace: bool, image: Data | None, url: str) -> str:
        """The annotated tree of the model in use, with the page's image traced through it if asked for."""
        try:
            pipe, given = await self._model(name, lang), image or url.strip()
            source = await self._open(pipe, image, url) if trace and given else None
            found = await self._describe(pipe, lang, source)
        except Exception as error:
            return views.failure(error, lang)
        return (views.message(lang, "no_trace") if trace and not given else "") + found.to_html(fragment=True)

    async def explorer(self, lang: Any, name: str, image: Data | None, url: str) -> str:
        """The page that follows the page's image through the model in use, in a frame."""
        try:
            pipe = await self._model(name, lang)
            file = await self._open(pipe, image, url)
            with self._drawings:
                found = await asyncio.to_thread(explore, file.getvalue(), pipe, lang=lang, name=file.name)
        except Exception as error:
            return views.failure(error, lang)
        return found._repr_html_()

    async def _describe(self, pipe: ViTPipeline, lang: Any, source: Any, **options: Any) -> ModelStructure:
        with self._drawings:
            return await asyncio.to_thread(describe, pipe, lang, source, **options)

    # The API: names and defaults of the arguments are part of it

    async def api_classify(
        self, image: dict[str, Any] | None = None, url: str = "", top_k: int = 5, model: str = ""
    ) -> dict[str, Any]:
        """Classify one image: a file, or a URL. Returns source, model, label, score, index and top."""
        try:
            pipe = await self.models.get(model)
            answer = await self.worker.ask(pipe, await self._open(pipe, image, url), _whole(top_k))
            return answer.prediction.to_dict()
        except Exception as error:
            raise gr.Error(views.for_program(error), print_exception=False) from error

    async def api_structure(
        self, model: str = "", lang: str = "en", order: str = "execution"
    ) -> dict[str, Any]:
        """The annotated structure of a model, as describe() gives it, and as ``text``."""
        try:
            found = await self._describe(await self.models.get(model), lang, None, order=order)
            return {**_for_client(found.to_dict()), "text": str(found)}
        except Exception as error:
            raise gr.Error(views.for_program(error), print_exception=False) from error


def _for_client(value: Any) -> Any:
    """``path`` is called ``module``: gradio_client takes whatever has a ``path`` for a file to download."""
    if isinstance(value, dict):
        return {"module" if key == "path" else key: _for_client(entry) for key, entry in value.items()}
    return [_for_client(entry) for entry in value] if isinstance(value, list) else value


def _name(file: Data) -> str:
    """An upload's name as its visitor knows it."""
    return str(file.get("orig_name") or Path(file["path"]).name)[:200]


def _whole(value: Any, limit: int = 10**6) -> int:
    if not isinstance(value, int | float | None):
        raise ArgumentError(f"top_k is {value!r:.60}; a whole number of at least 1 is needed")
    return max(1, min(int(value or 1), limit))
