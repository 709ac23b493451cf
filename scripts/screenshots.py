"""The WebUI's screenshots for the README, taken in Chromium; run by ``make screenshots``.

python scripts/screenshots.py            writes docs/images/
python scripts/screenshots.py --all DIR  every tab, both languages, light and dark, desk and phone, to look at
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
TABS = ("classify", "model", "structure", "explorer", "api")
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
LOCALES = {"en": "en-US", "zh": "zh-CN"}
Shot = tuple[str, str, str, str]
#: For the README: (language, light or dark, size, tab).
CHOSEN = (
    ("en", "light", "desk", "classify"),
    ("zh", "light", "desk", "classify"),
    ("en", "light", "desk", "structure"),
    ("zh", "light", "desk", "structure"),
    ("en", "dark", "phone", "classify"),
    ("zh", "dark", "phone", "classify"),
)


def take(
    browser: Any, url: str, folder: Path, shots: list[tuple[str, str, str, str]], *, whole: bool
) -> None:
    """One page for each language, scheme and size; on it, each tab that is wanted."""
    for lang, scheme, size in dict.fromkeys(shot[:3] for shot in shots):
        phone = size == "phone"
        context = browser.new_context(
            viewport=SIZES[size], locale=LOCALES[lang], color_scheme=scheme, is_mobile=phone, has_touch=phone
        )
        page = context.new_page()
        page.goto(f"{url}/?lang={lang}")
        page.wait_for_load_state("networkidle")  # the words of the language have arrived
        page.locator("#image input[type=file]").set_input_files(ROOT / "examples" / "cat.png")
        page.wait_for_selector("#answer .vp-class")
        for number, tab in enumerate(TABS):
            if (lang, scheme, size, tab) not in shots:
                continue
            page.get_by_role("tab").nth(number).click()
            if tab == "structure":
                page.wait_for_selector("#structure .vit-structure")
            page.wait_for_timeout(800)  # images decode, the page scrolls
            page.evaluate("scrollTo(0, 0)")
            full = whole or (tab == "classify" and not phone)
            path = folder / f"webui-{tab}-{lang}-{scheme}-{size}.png"
            page.screenshot(path=path, full_page=full)
            print(path)
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", type=Path, metavar="DIR")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright
    from serve import WebUI

    folder = options.all or ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    shots = list(CHOSEN)
    if options.all:
        shots = [
            (lang, scheme, size, tab)
            for lang in LOCALES
            for scheme in ("light", "dark")
            for size in SIZES
            for tab in TABS
        ]
    server = WebUI()
    try:
        with sync_playwright() as playwright:
            chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            take(browser, server.url, folder, shots, whole=bool(options.all))
            browser.close()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
