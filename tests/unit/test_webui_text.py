"""Both languages say everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vit_pipeline
from vit_pipeline import errors
from vit_pipeline.explain import METHODS
from vit_pipeline.names import KNOWN_MODELS
from vit_pipeline.webui.handlers import TABS
from vit_pipeline.webui.views import TEXTS, words

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
FOLDER = Path(vit_pipeline.__file__).parent / "webui"
SOURCES = [path.read_text("utf-8") for path in (*FOLDER.glob("*.py"), *FOLDER.glob("templates/*.html"))]
MADE_UP = {f"about_{name}" for name in KNOWN_MODELS} | {"source_embedded", "source_folder"}
MADE_UP |= {f"tab_{name}" for name in TABS}
MADE_UP |= {name for name in [*vars(errors), "Busy", "NoImageError", "Exception"] if name in TEXTS}
MADE_UP |= {f"view_{name}" for name in ("given", "seen", "evidence")} | {f"method_{m}" for m in METHODS}
MADE_UP |= {f"sort_{by}" for by in ("given", "most", "least", "class")} | {
    f"label_{name}" for name in CIFAR10
}
MADE_UP |= {"examples_known", "examples_unknown", "common.upload", "common.complete"}


@pytest.mark.parametrize("key", TEXTS)
def test_a_text_says_the_same_in_both_languages(key: str) -> None:
    english, chinese = TEXTS[key]
    assert english.strip()
    assert chinese.strip()
    assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese))
    if key not in ("tab_api", "url_placeholder", "comma"):
        assert re.search(r"[\u4e00-\u9fff]", chinese)
        assert not re.search(r"[\u4e00-\u9fff]", english)


def test_every_text_is_used_and_every_used_text_exists() -> None:
    used = {key for source in SOURCES for key in re.findall(r"""\bt\(["']([\w-]+)["'][,)]""", source)}
    assert used <= set(TEXTS)
    named = {key for key in TEXTS if any(f'"{key}"' in source for source in SOURCES)}
    assert set(TEXTS) - used - named - MADE_UP == set()


def test_values_are_filled_in() -> None:
    assert words("en")("loaded", model="demo") == "demo is loaded and in use."
    assert words("zh")("loaded", model="demo") == "demo 已加载，现在就用它。"
