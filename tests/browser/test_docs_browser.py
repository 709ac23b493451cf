"""The site in a real browser, from the disk: it finds what one looks for, asks nobody, and all can use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serve import ROOT, barriers
from test_webui_browser import browser  # noqa: F401

pytestmark = pytest.mark.long
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PAGES = ("index", "tutorial", "course/0_tutorial", "course/3_attention", "howto/faster", "explanation/parts")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "scripts" / "build_docs.py", folder], check=True)
    return folder


@pytest.mark.parametrize(
    ("lang", "query", "page"),
    [
        ("en", "offline", "howto/offline"),
        ("en", "layernorm_before", "explanation/parts"),
        ("en", "CUDA out of memory", "howto/gpu"),
        ("zh", "离线", "howto/offline"),
        ("zh", "代理", "howto/proxy"),
        ("zh", "自己的模型", "howto/own-model"),
        ("zh", "图像块", "explanation/parts"),
        ("zh", "int8 安全", "howto/faster"),
        ("zh", "layernorm_before", "explanation/parts"),
    ],
)
def test_search_finds(site: Path, browser: Any, lang: str, query: str, page: str) -> None:  # noqa: F811
    tab = browser.new_page()
    tab.goto((site / lang / "search.html").as_uri() + f"?q={query}")
    found = tab.locator("#search-results li a")
    found.first.wait_for()
    tab.wait_for_function("document.querySelector('#search-results .search-summary, #search-results p')")
    links = found.evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any(f"{page}.html" in link for link in links[:3]), links
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_everybody_can_use_it(site: Path, browser: Any, lang: str, size: Any, scheme: str) -> None:  # noqa: F811
    context = browser.new_context(viewport=size, color_scheme=scheme)
    tab, asked = context.new_page(), set[str]()
    tab.on("request", lambda request: asked.add(request.url.partition(":")[0]))
    for page in PAGES:
        tab.goto((site / lang / f"{page}.html").as_uri())
        assert barriers(tab) == [], page
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), page
    assert asked <= {"file", "data"}
    context.close()
