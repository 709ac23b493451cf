"""What happens when a visitor does something: functions from the page's inputs to the page's outputs.

They use the public API only, and run on the server's event loop: all that takes time is awaited. Leaves out:
where inputs and outputs stand (``page``), how outputs look (``html``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import (
    UnsafeURLError,
    VitPipelineError,
)
from ..fetch.urls import is_url, without_password
from ..pipeline import Prediction
from . import html
from .model_pool import Loaded
from .problems import explained, for_program, sentence
from .service import Service
from .serving import Answer, Busy
from .sessions import Shown
from .text import Language, texts

MAX_FILES = 50
MAX_TOP_K = 10


class Handlers:
    """The functions behind one language's page."""

    def __init__(self, service: Service, lang: Language) -> None:
        self.service, self.lang = service, lang
        self.t = texts(lang)

    async def visit(self, request: gr.Request) -> tuple[str, str, str, str]:
        """The page is opened: badge, answer, history and card, as they were before a change of language."""
        session = self.service.session(request)
        try:
            loaded = await self.service.model(session.model)
        except VitPipelineError:  # it was on disk, and is not any more
            session.model = ""
            loaded = self.service.pool.start
        answer = html.answer(session.last, self.lang) if session.last else html.empty(self.t("no_result"))
        return (
            html.badge(loaded, self.lang),
            answer,
            html.history(session.history, self.lang),
            html.card(loaded, self.lang),
        )

    # Classify

    async def classify_file(self, path: str | None, top_k: float, request: gr.Request) -> Any:
        """An image was chosen → answer, history, empty URL box."""
        if not path:
            return gr.skip(), gr.skip(), gr.skip()
        return *await self._classify(path, top_k, request), ""

    async def classify_url(self, url: str, top_k: float, request: gr.Request) -> Any:
        """A URL was given → answer, history, empty image box."""
        if not url.strip():
            return html.message(self.t("no_image")), gr.skip(), gr.skip()
        return *await self._classify(url.strip(), top_k, request, is_file=False), None

    async def classify_either(self, path: str | None, url: str, top_k: float, request: gr.Request) -> Any:
        """The button → answer, history."""
        if not (source := path or (url or "").strip()):
            return html.message(self.t("no_image")), gr.skip()
        return await self._classify(source, top_k, request, is_file=bool(path))

    async def _classify(
        self, source: str, top_k: float, request: gr.Request, *, is_file: bool = True
    ) -> tuple[Any, Any]:
        session = self.service.session(request)
        try:
            loaded = await self.service.model(session.model)
            image, name = _image(source, is_file)
            answer = await asyncio.wrap_future(
                self.service.worker.submit(
                    loaded.pipe, image, name=name, top_k=_whole(top_k, MAX_TOP_K), keep=True
                )
            )
            shown = await asyncio.to_thread(_shown, loaded, answer)
        except Exception as error:
            return explained(error, self.lang), gr.skip()
        session.last, session.seen = shown, (loaded.name, answer.pixel_values)
        session.history.append(shown)
        return html.answer(shown, self.lang), html.history(session.history, self.lang)

    async def classify_files(self, paths: list[str] | None, request: gr.Request) -> AsyncIterator[str]:
        """Several files → a table that fills, with a link to its CSV."""
        if not paths:
            yield html.message(self.t("no_image"))
            return
        loaded = await self.service.model(self.service.session(request).model)
        rows: list[tuple[str, Prediction | str]] = []
        note = (
            html.message(self.t("too_many", limit=MAX_FILES), kind="note") if len(paths) > MAX_FILES else ""
        )
        for path in map(Path, paths[:MAX_FILES]):
            try:
                answer = await self._patiently(loaded, path)
                rows.append((path.name, answer.prediction))
            except Exception as error:
                first, detail = sentence(error, self.lang)
                rows.append((path.name, detail or first))
            if len(rows) % 5 == 0 and len(rows) < len(paths):
                yield html.progress(f"{len(rows)} / {min(len(paths), MAX_FILES)}")
        yield note + html.table(rows, self.lang)

    async def _patiently(self, loaded: Loaded, path: Path) -> Answer:
        """One of many images: it steps back for others for up to half a minute."""
        for _ in range(150):
            try:
                return await asyncio.wrap_future(
                    self.service.worker.submit(loaded.pipe, path, name=path.name, top_k=1)
                )
            except Busy:
                await asyncio.sleep(0.2)
        raise Busy("busy: the server had no time for it; try again in a moment")

    def clear_history(self, request: gr.Request) -> str:
        """Forget what was classified."""
        session = self.service.session(request)
        session.history.clear()
        return html.history(session.history, self.lang)

    # Load model

    async def load(self, name: str, request: gr.Request) -> AsyncIterator[tuple[Any, Any, Any]]:
        """A model was asked for → what is going on, the card, the badge."""
        session, pool = self.service.session(request), self.service.pool
        name = (name or "").strip()
        bar = _Progress()
        try:
            pool.check(name)
            key = "waiting_turn" if pool.busy else "loading"
            task = asyncio.create_task(self.service.load(name, bar.update))
            task.add_done_callback(
                lambda t: t.cancelled() or t.exception()
            )  # also when nobody waits any more
            yield html.progress(self.t(key, model=name)), gr.skip(), gr.skip()
            while not task.done():
                await asyncio.wait([task], timeout=0.2)
                if (state := bar.news()) and not task.done():
                    yield self._progress(*state), gr.skip(), gr.skip()
            loaded = task.result()
        except Exception as error:
            used = session.model or pool.start.name
            kept = html.message(self.t("kept", model=used), kind="note")
            yield explained(error, self.lang) + kept, gr.skip(), gr.skip()
            return
        session.model = name
        done = html.message(self.t("loaded", model=name), kind="good")
        yield done, html.card(loaded, self.lang), html.badge(loaded, self.lang)

    def _progress(self, file: str, done: int, total: int) -> str:
        if total and done >= total:
            return html.progress(self.t("checking"))
        return html.progress(self.t("downloading", file=file), done, total)

    # Structure

    async def structure(self, order: str, walk: bool, request: gr.Request) -> str:
        """The annotated tree of the model in use, with the last image's real shapes if asked for."""
        session = self.service.session(request)
        try:
            loaded = await self.service.model(session.model)
            made_with, pixel_values = session.seen
            note = ""
            if walk and made_with != loaded.name:
                note = html.message(self.t("walk_info", model=loaded.name), kind="note")
            image = pixel_values if walk and not note else None
            order = order if order == "execution" else "module"

            def draw() -> str:
                from ..structure import describe

                return describe(loaded.pipe, self.lang, image, order=order).to_html(fragment=True)  # type: ignore[arg-type]

            return note + await self.service.draw(draw)
        except Exception as error:
            return explained(error, self.lang)

    # The API

    async def api_classify(self, image: str | None, url: str, top_k: float, model: str) -> dict[str, Any]:
        """Classify one image: a file, or a URL. Returns source, model, label, score, index and top."""
        if not (source := image or (url or "").strip()):
            raise gr.Error(self.t("no_image"), print_exception=False)
        try:
            if model:
                self.service.pool.check(model)
            loaded = await self.service.model(model or "")
            checked, name = _image(source, bool(image))
            future = self.service.worker.submit(loaded.pipe, checked, name=name, top_k=_whole(top_k))
            return (await asyncio.wrap_future(future)).prediction.to_dict()
        except Exception as error:
            raise for_program(error, self.lang) from error

    async def api_structure(self, model: str, lang: str, order: str) -> dict[str, Any]:
        """The annotated structure of a model, as describe() gives it, and as ``text``."""
        try:
            if model:
                self.service.pool.check(model)
            loaded = await self.service.model(model or "")

            def make() -> dict[str, Any]:
                from ..structure import describe

                structure = describe(loaded.pipe, lang, order=order)  # type: ignore[arg-type]
                answer: dict[str, Any] = _for_client(structure.to_dict())
                return answer | {"text": str(structure)}

            return await self.service.draw(make)
        except Exception as error:
            raise for_program(error, self.lang) from error


class _Progress:
    """Hands what the loading thread reports to the event loop, the latest only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: tuple[str, int, int] | None = None

    def update(self, file: str, done: int, total: int) -> None:
        with self._lock:
            self._state = (file, done, total)

    def news(self) -> tuple[str, int, int] | None:
        with self._lock:
            state, self._state = self._state, None
            return state


def _shown(loaded: Loaded, answer: Answer) -> Shown:
    """An answer with its two images made ready for the page."""
    assert answer.image is not None
    assert answer.pixel_values is not None
    seen = html.seen_image(loaded.pipe, answer.pixel_values)
    small = answer.image.copy()
    small.thumbnail((360, 360))
    patch = loaded.pipe.model.config.patch_size
    return Shown(
        answer.prediction,
        answer.seconds,
        answer.batch,
        given=html.data_url(small, "JPEG"),
        given_size=answer.image.size,
        seen=html.data_url(seen),
        seen_size=seen.size,
        patch=patch if isinstance(patch, int) else 0,
    )


def _image(source: str, is_file: bool) -> tuple[str | Path, str]:
    """What to read, and its name. What a visitor typed is a URL or nothing: never a path on the server."""
    if is_url(source):
        return source, without_password(source)
    if is_file:
        return Path(source), Path(source).name
    raise UnsafeURLError(f"{source}: not an address; it must look like https://host/image.jpg")


def _whole(value: float, limit: int = 10**6) -> int:
    return max(1, min(int(value or 1), limit))


def _for_client(value: Any) -> Any:
    """``path`` is called ``module``: gradio_client takes whatever has a ``path`` for a file to download."""
    if isinstance(value, dict):
        return {"module" if key == "path" else key: _for_client(entry) for key, entry in value.items()}
    return [_for_client(entry) for entry in value] if isinstance(value, list) else value
