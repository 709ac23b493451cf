"""Opening the WebUI in Chromium, until it can be used, beside a bare Gradio app: an image, a label, a button.

    python benchmarks/page_up.py [--rounds 10]

Each opening has an empty cache. Needs the extra ``webui``, playwright and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from functools import partial
from typing import Any

from rounds import ROOT, alternate, machine, median_ratio, table

sys.path.insert(0, str(ROOT / "tests"))
from playwright.sync_api import sync_playwright
from serve import WebUI

BARE = """
import gradio as gr
app = gr.Interface(lambda image: {"cat": 1.0}, gr.Image(type="filepath"), gr.Label(), flagging_mode="never")
_, url, _ = app.launch(server_name="127.0.0.1", quiet=True, prevent_thread_lock=True)
print("ready on", url.rstrip("/"), flush=True)
app.block_thread()
"""


def open_page(browser: Any, url: str, ready: str) -> None:
    """Until what the page is for is there."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(ready)
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    servers = {
        "bare Gradio": (WebUI(program=BARE), "button:has-text('Submit')"),
        "vit-pipeline": (WebUI("--model", "demo"), "#badge b"),
    }
    try:
        with sync_playwright() as started:
            flags = ["--no-sandbox", "--disable-gpu"]
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            rows = {
                name: partial(open_page, browser, web.url, ready) for name, (web, ready) in servers.items()
            }
            alternate(rows, 1)  # warm
            seconds = alternate(rows, options.rounds)
            browser.close()
    finally:
        for web, _ in servers.values():
            web.stop()
    print(machine())
    lines = [
        [name, f"{statistics.median(s):.2f}", f"{1 / median_ratio(s, seconds['bare Gradio']):.2f}"]
        for name, s in seconds.items()
    ]
    table(["", "seconds", "times bare"], lines)


if __name__ == "__main__":
    main()
