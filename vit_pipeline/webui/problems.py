"""What went wrong, as a visitor is told: a sentence in the page's language, then the library's own line."""

from __future__ import annotations

import re
import sys
import traceback

import gradio as gr

from ..errors import (
    CheckpointError,
    DeviceError,
    DownloadError,
    FetchError,
    ImageError,
    ModelNameError,
    UnsafeURLError,
    VitPipelineError,
)
from .html import message
from .model_pool import NotAllowed
from .serving import Busy
from .text import Language, texts

_SENTENCES = (
    (Busy, "busy"),
    (UnsafeURLError, "bad_url"),
    (FetchError, "bad_fetch"),
    (ImageError, "bad_image"),
    (ModelNameError, "bad_name"),
    (DownloadError, "bad_download"),
    (CheckpointError, "bad_checkpoint"),
    (DeviceError, "bad_device"),
    (VitPipelineError, "bad_other"),
)


def sentence(error: Exception, lang: Language) -> tuple[str, str]:
    """A sentence in the page's language, and the library's own line where it says more."""
    t = texts(lang)
    if isinstance(error, NotAllowed):
        return t("bad_name"), t("not_allowed", allowed=error.allowed)
    for kind, key in _SENTENCES:
        if isinstance(error, kind):
            detail = "" if kind is Busy else re.sub(r"<file (.*?)>:", r"\1:", str(error))
            return t(key), detail
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
    return t("internal"), ""


def explained(error: Exception, lang: Language) -> str:
    """The same, for the page."""
    return message(*sentence(error, lang))


def for_program(error: Exception, lang: Language) -> gr.Error:
    """The same, for a program that called the API."""
    if isinstance(error, gr.Error):
        return error
    return gr.Error(" ".join(filter(None, sentence(error, lang))), print_exception=False)
