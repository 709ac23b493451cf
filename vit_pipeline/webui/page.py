"""The page: what stands where, and which event calls what. Leaves out what happens then (``handlers``).

One ``Blocks``. What a visitor chose stands in components of the page itself, some of them hidden, so that two
tabs never disagree, and a server that was restarted knows as much as before. Every component with words on it
is listed with them, and one event says them all in the other language.
"""

from __future__ import annotations

from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import gradio as gr

from .handlers import MAX_TOP_K, TABS, Handlers
from .views import words

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOS = {  # what the embedded model knows of, and what it does not
    "known": ("airplane.jpg", "parrots.jpg", "boat.jpg", "cat.png"),
    "unknown": ("coffee.png", "rocket.jpg", "astronaut.png"),
}
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "preprocess": False}
#: The browser's part of an event is in ``page.js``; each of these calls a function there.
_OPENED, _ADDRESS, _SHOW_ANSWER = "() => vp.opened()", "(...state) => vp.address(...state)", "() => vp.show()"


class Page:
    """The components, the words that some of them carry, and the events."""

    def __init__(self, do: Handlers) -> None:
        self.do = do
        self.worded: dict[Any, dict[str, str]] = {}  # component → which property says which text
        self.pieces: dict[str, gr.HTML] = {}  # all that ``Handlers.pieces`` writes
        with gr.Blocks(title="ViT pipeline", analytics_enabled=False, fill_width=False) as self.blocks:
            gr.api(do.api_classify, api_name="classify")
            gr.api(do.api_structure, api_name="structure")
            hidden = partial(gr.JSON, visible=False)  # what the browser keeps
            self.opened, self.shown, self.found = hidden(), hidden(), hidden()
            self.pair, self.past = hidden([]), hidden([])
            self.model = gr.Textbox(do.models.start.name, visible=False)
            with gr.Row(elem_classes="vp-header"):
                self.piece("header")
                languages = {"choices": [("English", "en"), ("中文", "zh")], "value": "en"}
                self.lang = gr.Radio(**languages, show_label=False, container=False, elem_id="language")
            self.piece("badge", elem_id="badge")
            self.piece("notice", elem_id="notice")
            with gr.Tabs(elem_id="tabs") as self.tabs:
                parts = (self.classify, self.load, self.structure, self.explorer, self.api)
                for name, part in zip(TABS, parts, strict=True):
                    with self.put(gr.Tab, f"tab_{name}", id=name, elem_id=f"tab-{name}") as tab:
                        part(tab)
            self.language()

    def put(self, kind: Any, says: str | dict[str, str], **options: Any) -> Any:
        """A component, in English at first; ``says``: what of it carries which text, or its label's."""
        says = {"label": says} if isinstance(says, str) else says
        component = kind(**says_in("en", says), **options)
        self.worded[component] = says
        return component

    def names(self) -> dict[str, Any]:
        """The models to choose from."""
        models = self.do.models
        found = {"choices": [*models.choices], "allow_custom_value": models.open}
        return found | {"value": models.start.name}

    def piece(self, name: str, **options: Any) -> gr.HTML:
        """A part of the page that a template writes."""
        self.pieces[name] = gr.HTML(**options)
        return self.pieces[name]

    def scripted(self, name: str, file: str, **options: Any) -> gr.HTML:
        """A piece with a script of its own."""
        options |= {"js_on_load": script(file), "apply_default_css": False, "elem_id": name}
        return self.piece(name, **options)

    def classify(self, _: gr.Tab) -> None:
        put, do = self.put, self.do

        async def inside(asked: dict[str, Any]) -> dict[str, Any]:  # Gradio marks it, which no method lets it
            return await do.inside(asked)

        async def frame(asked: dict[str, Any]) -> dict[str, Any]:
            return await do.frame(asked)

        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                self.image_inputs()
                limits = {"minimum": 1, "maximum": MAX_TOP_K, "value": 5, "step": 1}
                self.top_k = put(gr.Slider, "top_k", elem_id="top-k", buttons=[], **limits)
                button = put(gr.Button, {"value": "classify"}, variant="primary", elem_id="classify-button")
            with gr.Column(scale=6, min_width=320):
                answer = self.scripted("answer", "inside.js", server_functions=[inside])
                self.piece("hint", elem_id="hint")
        with put(gr.Accordion, "beside", open=False, elem_id="beside"):
            other = put(gr.Dropdown, "other_model", **self.names(), elem_id="other-model")
            compare = put(gr.Button, {"value": "compare"}, elem_id="compare-button")
            compared = self.piece("compared", elem_id="compared")
        with put(gr.Accordion, "several", open=False, elem_id="several"):
            files = put(gr.File, "files", file_count="multiple", height=160, elem_id="files")
            all_button = put(gr.Button, {"value": "classify_all"}, elem_id="classify-all")
            results = self.scripted("results", "gallery.js")
        with put(gr.Accordion, "live", open=False, elem_id="live"):
            self.scripted("camera", "camera.js", server_functions=[frame])
        with put(gr.Accordion, "history", open=False, elem_id="past"):
            self.scripted("history", "gallery.js")
            clear = put(gr.Button, {"value": "clear_history"}, size="sm", elem_id="clear-history")

        image, url, given = self.image, self.url, [self.lang, self.model, self.top_k, self.past]
        options = _QUIET | {"show_progress": "minimal", "show_progress_on": answer}
        for event in (
            image.change(do.classify_image, [image, url, *given], [self.shown, self.past, url], **options),
            url.submit(do.classify_url, [url, *given], [self.shown, self.past, image], **options),
            button.click(do.classify, [image, url, *given], [self.shown, self.past], **options),
        ):
            self.show_answers(event.then).then(None, js=_SHOW_ANSWER, api_visibility="private")
        options["show_progress_on"] = compared
        given = [image, url, self.model, other, self.top_k]
        self.show_answers(compare.click(do.compare, given, self.pair, **options).then)
        options["show_progress_on"] = results
        given = [files, self.lang, self.model]
        self.show_results(all_button.click(do.classify_files, given, [results, self.found], **options).then)
        cleared = clear.click(None, None, self.past, js="() => [[]]", api_visibility="private")
        self.show_answers(cleared.then)

    def show_answers(self, event: Any) -> Any:
        shown = [self.pieces[name] for name in ("answer", "compared", "history")]
        return event(self.do.answers, [self.lang, self.shown, self.pair, self.past], shown, **_QUIET)

    def show_results(self, event: Any) -> Any:
        return event(self.do.results, [self.lang, self.found], self.pieces["results"], **_QUIET)

    def image_inputs(self) -> None:
        says = {"label": "image", "placeholder": "drop_hint"}
        reads = {"type": "filepath", "sources": ["upload", "webcam", "clipboard"]}
        self.image = self.put(gr.Image, says, **reads, buttons=[], height=300, elem_id="image")
        says = {"label": "url_label", "placeholder": "url_placeholder"}
        self.url = self.put(gr.Textbox, says, submit_btn=True, max_length=8000, elem_id="url")
        for name, photos in PHOTOS.items():
            if paths := [str(EXAMPLES / photo) for photo in photos if (EXAMPLES / photo).exists()]:
                shown = gr.Examples(paths, self.image, elem_id=f"examples-{name}", api_visibility="private")
                self.worded[shown.dataset] = {"label": f"examples_{name}"}

    def load(self, _: gr.Tab) -> None:
        models = self.do.models
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                says = {"label": "model_choice", "info": "model_info_any" if models.open else "model_info"}
                self.choice = self.put(gr.Dropdown, says, **self.names(), elem_id="model-choice")
                button = self.put(gr.Button, {"value": "load"}, variant="primary", elem_id="load-button")
                self.status = gr.HTML(elem_id="load-status")
                self.piece("about")
            with gr.Column(scale=6, min_width=320):
                card = self.piece("card", elem_id="model-card")
        loaded = [self.status, self.model, self.pieces["badge"], card]
        options = _QUIET | {"show_progress": "full", "show_progress_on": card}
        done = button.click(self.do.load, [self.choice, self.lang, self.model], loaded, **options)
        self.note_address(done.then)

    def structure(self, tab: gr.Tab) -> None:
        self.piece("intro")
        with gr.Row(elem_classes="vp-options"):
            trace = self.put(gr.Checkbox, "trace", elem_id="trace")
        tree = gr.HTML(elem_id="structure", padding=False, js_on_load=script("structure.js"))
        given = [self.lang, self.model, trace, self.image, self.url]
        for event in (tab.select, trace.input, self.lang.input):
            event(self.do.structure, given, tree, **_QUIET | {"show_progress": "minimal"})

    def explorer(self, _: gr.Tab) -> None:
        self.piece("explorer")
        button = self.put(gr.Button, {"value": "explore"}, variant="primary", elem_id="explore-button")
        frame = gr.HTML(elem_id="explorer")
        options = _QUIET | {"show_progress": "full", "show_progress_on": frame}
        button.click(self.do.explorer, [self.lang, self.model, self.image, self.url], frame, **options)

    def api(self, _: gr.Tab) -> None:
        self.piece("api")

    def note_address(self, event: Any) -> None:
        """Write into the address what has changed."""
        event(None, [self.lang, self.model, self.top_k], js=_ADDRESS, api_visibility="private")

    def language(self) -> None:
        """The page is opened, or another language is chosen."""
        chosen = [self.lang, self.model, self.choice, self.tabs, self.top_k, self.status, self.opened]
        written = [*self.worded, *self.pieces.values()]

        async def write(lang: str, name: str, opened: dict[str, Any]) -> dict[Any, Any]:
            pieces = self.do.pieces(lang, name, opened)
            return {
                **{part: gr.update(**says_in(lang, says)) for part, says in self.worded.items()},
                **{self.pieces[name]: piece for name, piece in pieces.items()},
            }

        async def visit(opened: dict[str, Any]) -> dict[Any, Any]:
            values = dict(zip(chosen, await self.do.visit(opened), strict=True))
            found = await write(values[self.lang], values[self.model], opened)
            for component in (self.choice, self.top_k):  # these have words, too
                found[component]["value"] = values[component]
            return values | found

        everything = [*dict.fromkeys([*chosen, *written])]
        opened = self.blocks.load(visit, self.opened, everything, js=_OPENED, **_QUIET)
        said = self.lang.input(write, [self.lang, self.model, self.opened], written, **_QUIET)
        self.show_results(said.then)
        for event in (opened.then, self.show_answers(said.then).then, self.top_k.change):
            self.note_address(event)


def script(file: str) -> str:
    """One that runs when its component is there, with it as ``element``."""
    return Path(__file__).with_name(file).read_text("utf-8")


def says_in(lang: str, says: dict[str, str]) -> dict[str, str]:
    """The properties of a component that have words in them."""
    return {name: words(lang)(key) for name, key in says.items()}


def build(do: Handlers) -> gr.Blocks:
    """The whole page, and the two functions for programs."""
    blocks = Page(do).blocks
    blocks.max_threads = 256  # events at once; the handlers wait on the event loop, not in threads
    blocks.state_session_capacity = 100  # each holds a copy of the configuration, also for one API call
    for make in {type(block).__init__ for block in blocks.blocks.values()}:
        make.__signature__ = signature(make)  # which Gradio asks for with each of them; finding it took 5 ms
    blocks.queue(default_concurrency_limit=None, max_size=256, api_open=False)
    return blocks
