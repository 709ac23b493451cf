"""The page: what stands where, in one language. Leaves out what happens on a click (``handlers``)."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ..fetch.urls import is_url
from . import html
from .handlers import MAX_FILES, MAX_TOP_K, Handlers
from .service import Service
from .text import Language, texts

EXAMPLES = Path(__file__).parents[2] / "examples"
SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Noto Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
)
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
SNIPPET = """\
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
answer = client.predict(handle_file("cat.png"), api_name="/classify")
print("Predicted class:", answer["label"], answer["score"])

structure = client.predict(lang="{lang}", api_name="/structure")
print(structure["text"])
"""


def build(service: Service, lang: Language, *, other_page: str, api: bool) -> gr.Blocks:
    """The whole page.

    Args:
        other_page: where the page in the other language is.
        api: whether the named endpoints belong to this one.
    """
    t = texts(lang)
    do = Handlers(service, lang)
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title=t("title"), analytics_enabled=False, fill_width=False) as page:
        if api:
            _endpoints(do)  # first: gradio names the page's own events after their functions
        with gr.Row(elem_classes="vp-header"):
            gr.HTML(_header(lang, other_page))
        badge = gr.HTML(html.badge(service.pool.start, lang), elem_id="badge")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(t("tab_classify"), id="classify"):
                answer, history = _classify_tab(do, private)
            with gr.Tab(t("tab_model"), id="model"):
                card = _model_tab(do, service, badge, private)
            with gr.Tab(t("tab_structure"), id="structure") as tab:
                _structure_tab(do, tab, private)
            with gr.Tab(t("tab_api"), id="api"):
                gr.HTML(_api_help(lang))
        page.load(do.visit, None, [badge, answer, history, card], **private)
    page.max_threads = 256  # events at once; the handlers wait on the event loop, not in threads
    page.state_session_capacity = 100  # each holds a copy of the page's configuration, also for one API call
    page.queue(default_concurrency_limit=None, max_size=256, api_open=False)
    return page


def _classify_tab(do: Handlers, private: dict[str, Any]) -> tuple[gr.HTML, gr.HTML]:
    t = do.t
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            image = _own_decoder(
                gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "webcam", "clipboard"],
                    label=t("image"),
                    placeholder=t("drop_hint"),
                    buttons=[],
                    height=300,
                    elem_id="image",
                )
            )
            url = gr.Textbox(
                label=t("url_label"),
                placeholder=t("url_placeholder"),
                submit_btn=True,
                max_length=8000,
                elem_id="url",
            )
            photos = sorted(str(p) for p in EXAMPLES.glob("*.*") if p.suffix in (".png", ".jpg"))
            if photos:
                gr.Examples(photos, image, label=t("examples"), elem_id="examples", api_visibility="private")
            top_k = gr.Slider(1, MAX_TOP_K, value=5, step=1, label=t("top_k"), elem_id="top-k", buttons=[])
            button = gr.Button(t("classify"), variant="primary", elem_id="classify-button")
        with gr.Column(scale=6, min_width=320):
            answer = gr.HTML(html.empty(t("no_result")), elem_id="answer")
    with gr.Accordion(t("several"), open=False, elem_id="several"):
        files = _own_decoder(
            gr.File(
                file_count="multiple",
                type="filepath",
                label=t("files", limit=MAX_FILES),
                height=160,
                elem_id="files",
            )
        )
        all_button = gr.Button(t("classify_all"), elem_id="classify-all")
        results = gr.HTML(elem_id="results")
        all_button.click(do.classify_files, files, results, **private)
    with gr.Accordion(t("history"), open=False, elem_id="history"):
        history = gr.HTML(html.empty(t("history_empty")))
        clear = gr.Button(t("clear_history"), size="sm", elem_id="clear-history")
        clear.click(do.clear_history, None, history, **private)

    shown = private | {"show_progress": "minimal", "show_progress_on": answer}
    image.change(do.classify_file, [image, top_k], [answer, history, url], **shown)
    url.submit(do.classify_url, [url, top_k], [answer, history, image], **shown)
    button.click(do.classify_either, [image, url, top_k], [answer, history], **shown)
    return answer, history


def _model_tab(do: Handlers, service: Service, badge: gr.HTML, private: dict[str, Any]) -> gr.HTML:
    t, pool = do.t, service.pool
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            choice = gr.Dropdown(
                list(pool.choices),
                value=pool.start.name,
                label=t("model_choice"),
                info=t("model_info_any" if pool.open else "model_info"),
                allow_custom_value=pool.open,
                elem_id="model-choice",
            )
            load = gr.Button(t("load"), variant="primary", elem_id="load-button")
            status = gr.HTML(elem_id="load-status")
            gr.HTML(html.about_models(do.lang))
        with gr.Column(scale=6, min_width=320):
            card = gr.HTML(html.card(pool.start, do.lang), elem_id="model-card")
    load.click(do.load, choice, [status, card, badge], **private)
    return card


def _structure_tab(do: Handlers, tab: gr.Tab, private: dict[str, Any]) -> None:
    t = do.t
    gr.HTML(f'<p class="vp-note">{t("structure_intro")}</p>')
    with gr.Row(elem_classes="vp-options"):
        orders = [(t("order_module"), "module"), (t("order_execution"), "execution")]
        order = gr.Radio(orders, value="module", label=t("order"), elem_id="order")
        walk = gr.Checkbox(label=t("walk"), elem_id="walk")
    tree = gr.HTML(html.progress(t("structure_wait")), elem_id="structure", padding=False)
    for event in (tab.select, order.input, walk.input):
        event(do.structure, [order, walk], tree, **private)


def _endpoints(do: Handlers) -> None:
    """The two functions that a program may call."""
    with gr.Row(visible=False):
        image = _own_decoder(gr.Image(type="filepath", image_mode=None, label="image"))
        url = gr.Textbox(label="url", value="")
        top_k = gr.Number(label="top_k", value=5, precision=0, minimum=1)
        model = gr.Textbox(label="model", value="")
        lang = gr.Radio(["en", "zh"], label="lang", value="en")
        order = gr.Radio(["module", "execution"], label="order", value="module")
        result = gr.JSON(label="result")
        classify, structure = gr.Button(), gr.Button()
    classify.click(do.api_classify, [image, url, top_k, model], result, api_name="classify")
    structure.click(do.api_structure, [model, lang, order], result, api_name="structure")


def _own_decoder(component: Any) -> Any:
    """Hand over an upload's path, and a URL, as they are.

    Gradio's own code would open the file with any decoder there is, and fetch the URL without limits.
    """
    to_cache = component.async_move_resource_to_block_cache

    async def move(path: str | None) -> str | None:
        moved: str | None = path if is_url(path) else await to_cache(_checked(path))
        return moved

    def preprocess(payload: Any) -> Any:
        if payload is None:
            return None
        paths = [_checked(item.path) for item in getattr(payload, "root", [payload])]
        return paths if hasattr(payload, "root") else paths[0]

    component.async_move_resource_to_block_cache, component.preprocess = move, preprocess
    return component


def _checked(path: str | None) -> str:
    """A URL, or the path of a file that was uploaded here."""
    if is_url(path):
        return str(path)
    if path is None or not Path(path).resolve().is_relative_to(Path(gr.utils.get_upload_folder()).resolve()):
        raise gr.Error("not an uploaded file", print_exception=False)
    return path


def _header(lang: Language, other_page: str) -> str:
    t = texts(lang)
    other = "zh-CN" if lang == "en" else "en"
    return (
        f"<header><div><h1>{t('title')}</h1><p>{t('tagline')}</p></div>"
        f'<a id="language" class="vp-button" href="{other_page}" hreflang="{other}" lang="{other}" '
        f'title="{t("switch_language")}">{t("other_language")}</a></header>'
    )


def _api_help(lang: Language) -> str:
    t = texts(lang)
    return (
        f'<div class="vp-prose"><p>{t("api_intro")}</p>'
        f'<pre class="vp-code" tabindex="0"><code>{escape(SNIPPET.format(lang=lang))}</code></pre>'
        f"<p>{t('api_install')}</p><p>{t('api_health')}</p></div>"
    )


def theme() -> gr.themes.Base:
    """Fonts of the visitor's own machine: the page asks nobody else for anything."""
    base = gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=SANS,
        font_mono=MONO,
        radius_size="md",
    )
    # white on the hue's middle tone is hard to read
    return base.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        body_text_color_subdued="#586579",
        body_text_color_subdued_dark="#9aa8bd",
        block_info_text_color="#586579",
        block_info_text_color_dark="#9aa8bd",
    )
