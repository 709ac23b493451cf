"""Both languages say everything, and the browser's wish is understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vit_pipeline
from vit_pipeline.names import KNOWN_MODELS
from vit_pipeline.webui.text import TEXTS, preferred_language, texts

SOURCES = [
    path.read_text(encoding="utf-8")
    for path in Path(vit_pipeline.__file__).parent.glob("webui/*.py")
    if path.name != "text.py"
]


@pytest.mark.parametrize("key", TEXTS)
def test_a_text_says_the_same_in_both_languages(key: str) -> None:
    english, chinese = TEXTS[key]
    assert english.strip()
    assert chinese.strip()
    assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese))
    if key not in ("title", "tab_api", "none", "url_placeholder", "other_language", "switch_language"):
        assert re.search(r"[\u4e00-\u9fff]", chinese)
        assert not re.search(r"[\u4e00-\u9fff]", english)


def test_every_text_is_used_and_every_used_text_exists() -> None:
    used = set()
    for source in SOURCES:
        used |= set(re.findall(r"""\bt\(f?["']([\w-]+)["']""", source))
        used |= {key for key in TEXTS if f'"{key}"' in source}
    used |= {f"about_{name}" for name in KNOWN_MODELS} | {"source_embedded", "source_folder"}
    assert used - {"about_", "source_"} == set(TEXTS)


def test_values_are_filled_in() -> None:
    assert texts("en")("loaded", model="demo") == "demo is loaded and in use."
    assert texts("zh")("loaded", model="demo") == "demo 已加载，现在就用它。"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW", "zh"),
        ("ZH-hans-CN", "zh"),
        ("en-GB,zh;q=0.9", "en"),
        ("de,fr;q=0.9,zh;q=0.5,en;q=0.1", "zh"),
        ("de-DE,fr;q=0.9", "en"),
        ("en;q=0.1, zh;q=0.2", "zh"),
        ("zh;q=0, en", "en"),
        ("zh;q=x", "en"),
        ("*", "en"),
        (";;;,,,", "en"),
    ],
)
def test_preferred_language(header: str, language: str) -> None:
    assert preferred_language(header) == language
