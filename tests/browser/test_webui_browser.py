"""The WebUI in a real browser: Chromium, without a window. Skipped, with the reason, where there is none.

No test passes if the page throws an error, or asks anybody but its own server.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, wait_for
from hub_server import HubServer
from serve import ROOT, WebUI, barriers, shared
from test_webui import photo_server  # noqa: F401

from vit_pipeline import ViTPipeline, predict
from vit_pipeline.webui.views import named

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)

CAT = ROOT / "examples" / "cat.png"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
]  # fmt: skip
#: Every text and label of the page that has three Latin letters in a row and can be seen.
LATIN = """() => {
  const found = new Set();
  for (const e of document.querySelectorAll('.gradio-container *'))
    for (const name of ['aria-label', 'title', 'placeholder', 'alt'])
      if (e.checkVisibility() && e.getAttribute(name)) found.add(e.getAttribute(name));
  const texts = document.createTreeWalker(document.querySelector('.gradio-container'), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const parent = texts.currentNode.parentElement;
    if (parent && !['SCRIPT', 'STYLE', 'CODE'].includes(parent.tagName) && parent.checkVisibility())
      found.add(texts.currentNode.data.trim());
  }
  return [...found].filter(text => /[A-Za-z]{3}/.test(text) && !/[\\u4e00-\\u9fff]/.test(text));
}"""
GIVE_FILE = """([kind, selector, name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, {type: 'image/png'}));
  const target = document.querySelector(selector);
  const options = {bubbles: true, cancelable: true};
  if (kind === 'paste') target.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, ...options}));
  else for (const type of ['dragenter', 'dragover', 'drop'])
    target.dispatchEvent(new DragEvent(type, {dataTransfer: data, ...options}));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Visitor:
    """Opens pages, and watches what they say and whom they ask."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.errors: list[str] = []
        self.asked: set[str] = set()
        self.page.on("pageerror", self._note)
        self.page.on("request", lambda request: self.asked.add(request.url.split("/")[2] or "inline"))

    def _note(self, error: Any) -> None:
        if "Abort" not in str(error):  # a request that was given up: a busy machine, a page that was left
            self.errors.append(str(error))

    def open(self, url: str) -> Any:
        self.page.goto(url)
        self.page.wait_for_selector("#badge b")
        return self.page

    def choose_language(self, name: str, button: str) -> None:
        self.page.get_by_label(name, exact=True).check()
        self.page.wait_for_selector(f"#classify-button:text-is('{button}')")

    def choose_tab(self, number: int) -> None:
        self.page.get_by_role("tab").nth(number).click()

    def answer(self, name: str) -> str:
        """The predicted class once the answer for this image is there."""
        self.page.wait_for_selector(f"#answer .vp-note:has-text('{name}')")
        return str(self.page.inner_text("#answer .vp-class"))

    def check(self, url: str) -> None:
        assert self.errors == []
        assert {host for host in self.asked if host} <= {url.split("/")[2], "inline"}
        self.context.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    visitors: list[tuple[Visitor, str]] = []

    def visit(url: str, **options: Any) -> Visitor:
        visitor = Visitor(browser, **options)
        visitors.append((visitor, url))
        visitor.open(url)
        return visitor

    yield visit
    for visitor, url in visitors:
        visitor.check(url)


@pytest.fixture(scope="module")
def web() -> WebUI:
    return shared()


def test_an_image_is_classified_and_shown(web: WebUI, visit: Any) -> None:
    visitor = visit(web.url)
    page = visitor.page
    page.wait_for_selector("#hint :text('choose an image')")
    page.locator("#image input[type=file]").set_input_files(CAT)
    expected = predict(CAT, "demo")
    page.wait_for_selector("#hint", state="hidden")
    assert visitor.answer("cat.png") == f"Predicted class: {expected.label}"
    assert page.text_content("#answer .vp-class") == str(expected)
    bars = page.locator("#answer .vp-bars li")
    assert bars.locator(".vp-label").all_inner_texts() == [entry.label for entry in expected.top]
    scores = [f"{entry.score:.1%}" for entry in expected.top]
    ahead = 100 * (expected.score - expected.top[1].score)
    assert page.inner_text("#answer .vp-says h3") == f"Among 10 classes · {ahead:.1f} points ahead"
    assert f"about {expected.calibrated:.1%} of such answers are right" in page.inner_text(
        "#answer .vp-note >> nth=0"
    )
    assert bars.locator(".vp-score").all_inner_texts() == scores
    assert "32×32 pixels, in 8×8 patches of 4×4" in page.inner_text("#answer")
    page.click("#answer [data-view=given]")
    assert "451×300 pixels" in page.inner_text("#answer")
    page.locator("#top-k input[type=number]").fill("2")
    page.keyboard.press("Tab")
    page.click("#classify-button")
    page.wait_for_function("document.querySelectorAll('#answer .vp-bars li').length === 2")
    page.click("#past button")
    page.wait_for_function("document.querySelectorAll('#history li').length === 2")
    page.click("#clear-history")
    page.wait_for_selector("#history li", state="detached")


def overlay(page: Any, expected: Any) -> None:
    """Waits until the map over the image is the expected one."""
    page.wait_for_function(
        """expected => {
          const values = document.querySelector('#answer canvas')?.values ?? [];
          return expected.every((value, n) => Math.abs(value - values[n]) < 1e-6);
        }""",
        arg=expected.ravel().tolist(),
    )


@pytest.mark.parametrize("lang", ["en", pytest.param("zh", marks=pytest.mark.long)])
def test_the_inside_of_an_answer(web: WebUI, visit: Any, lang: str) -> None:
    page = visit(f"{web.url}/?lang={lang}", viewport={"width": 1280, "height": 720}).page
    page.wait_for_load_state("networkidle")
    page.locator("#image input[type=file]").set_input_files(CAT)
    e = ViTPipeline.from_pretrained("demo", device="cpu").explain(CAT)
    overlay(page, e.heatmap())
    for part in (".vp-class", ".vp-switch", ".vp-patches", ".vp-choices", ".vp-lens", ".vp-said"):
        box = page.locator(f"#answer {part}").bounding_box()
        assert box["y"] >= 0, part
        assert box["y"] + box["height"] <= 720, part  # without scrolling
    said = page.locator("#answer .vp-lens button").evaluate_all("bars => bars.map(bar => bar.title)")
    wanted = [f"{named(lang, at.label)}, {at.score:.1%}" for at in e.lens]
    assert [text.rpartition(": ")[2] for text in said] == wanted

    patches = page.locator("#answer .vp-patches")
    box = patches.bounding_box()
    middle = {"x": box["width"] * 5.5 / 8, "y": box["height"] * 2.5 / 8}
    patches.click(position=middle)
    overlay(page, e.attention(token=1 + 2 * 8 + 5))
    page.locator("#answer [name=head]").select_option("1")
    page.locator("#answer [name=layer]").select_option("2")
    overlay(page, e.attention(2, 1, token=1 + 2 * 8 + 5))
    patches.focus()
    for key in ("ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    overlay(page, e.attention(2, 1, token=1 + 2 * 8 + 4))
    page.keyboard.press("Escape")
    overlay(page, e.attention(2, 1))
    page.locator("#answer .vp-lens button").nth(4).press("Enter")
    overlay(page, e.attention(3, 1))
    page.locator("#answer [name=method]").select_option("occlusion")
    overlay(page, e.heatmap("occlusion"))
    page.click("#answer .vp-trust")
    page.wait_for_function(
        "gain => document.querySelector('#answer .vp-said').textContent.includes(gain)",
        arg=f"{e.faithfulness('occlusion').gain:+z.2f}".replace("-", "−"),
    )
    page.click(f"#answer .vp-label:text('{named(lang, 'dog')}')")
    dog = ViTPipeline.from_pretrained("demo", device="cpu").explain(CAT, "dog")
    overlay(page, dog.heatmap("occlusion"))


@pytest.mark.long
def test_the_explorer_follows_the_pages_image(web: WebUI, visit: Any) -> None:
    visitor = visit(web.url)
    page = visitor.page
    visitor.choose_tab(3)
    page.click("#explore-button")
    page.wait_for_selector("#explorer :text('Choose an image first')")
    visitor.choose_tab(0)
    page.locator("#image input[type=file]").set_input_files(CAT)
    visitor.answer("cat.png")
    visitor.choose_tab(3)
    page.click("#explore-button")
    frame = page.frame_locator("#explorer iframe")
    frame.locator("body:has-text('cat.png in demo')").wait_for()
    expected = predict(CAT, "demo")
    frame.locator(f"body:has-text('{expected.label}, {expected.score:.1%}')").wait_for()
    frame.get_by_role("button", name="Shuffle all patches").click()  # it computes in the page itself
    frame.locator(f"body:not(:has-text('{expected.label}, {expected.score:.1%}'))").wait_for()


@pytest.mark.long
def test_drop_paste_example_and_camera(web: WebUI, visit: Any) -> None:
    visitor = visit(web.url, permissions=["camera"])
    page, image = visitor.page, base64.b64encode(CAT.read_bytes()).decode()
    page.evaluate(GIVE_FILE, ["drop", "#image button", "dropped.png", image])
    assert visitor.answer("dropped.png").endswith("cat")
    page.evaluate(GIVE_FILE, ["paste", "body", "pasted.png", image])
    assert visitor.answer("pasted.png").endswith("cat")
    for group, names in (
        ("known", ["airplane.jpg", "parrots.jpg", "boat.jpg", "cat.png"]),
        ("unknown", ["coffee.png", "rocket.jpg", "astronaut.png"]),
    ):
        for number, name in enumerate(names):
            page.locator(f"#examples-{group} button").nth(number).click()
            answer = visitor.answer(name)
            assert group == "unknown" or answer.endswith(("airplane", "bird", "ship", "cat")[number])
            flagged = page.locator("#answer :text('None of its classes?')").count()
            assert flagged == (name == "astronaut.png")  # the cup and the rocket pass: no threshold is magic
    page.click("#image [aria-label='Remove Image']")
    page.click("#image [aria-label='Capture from camera']")
    page.click("#image :text('Click to Access Webcam')")
    page.wait_for_function("document.querySelector('#image video')?.videoWidth > 0")
    page.wait_for_timeout(300)
    page.click("#image [aria-label='capture photo']")
    page.wait_for_function("document.querySelector('#answer .vp-note')?.innerText.match(/webcam|image|blob/)")


def test_a_url_is_classified(web: WebUI, visit: Any, photo_server: str) -> None:  # noqa: F811
    visitor = visit(web.url)
    page = visitor.page
    page.fill("#url textarea, #url input", f"{photo_server}/cat.png")
    page.keyboard.press("Enter")
    assert visitor.answer(photo_server).endswith("cat")
    page.fill("#url textarea, #url input", "not an address")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer [role=alert]:has-text('This address is not allowed.')")


def test_garbage_gets_a_sentence_and_the_next_image_an_answer(web: WebUI, visit: Any, tmp_path: Path) -> None:
    visitor = visit(web.url)
    page = visitor.page
    for name, content in (("cut.png", CAT.read_bytes()[:3000]), ("page.png", b"<html><b>hi</b>")):
        (tmp_path / name).write_bytes(content)
        page.locator("#image input[type=file]").set_input_files(tmp_path / name)
        page.wait_for_selector(f"#answer [role=alert]:has-text('{name}')")
        assert "This image could not be read." in page.inner_text("#answer")
        visitor.errors.clear()  # the browser says itself that it cannot show such an image
    page.locator("#image input[type=file]").set_input_files(CAT)
    assert visitor.answer("cat.png").endswith("cat")


@pytest.mark.long
def test_several_images_give_a_gallery_a_csv_and_json(web: WebUI, visit: Any, tmp_path: Path) -> None:
    evil = tmp_path / "=1+<b>x.png"
    evil.write_bytes(CAT.read_bytes())
    page = visit(web.url).page
    page.click("#several button")
    files = [CAT, ROOT / "examples" / "rocket.jpg", ROOT / "pyproject.toml", evil]
    page.locator("#files input[type=file]").set_input_files(files)
    page.wait_for_selector("#files :text('rocket')")
    page.click("#classify-all")
    page.wait_for_selector("#results :text('3 of 4 images classified')")
    tiles = page.locator("#results .vp-tiles li")
    assert tiles.count() == 3
    assert page.locator("#results .vp-bad li").inner_text() == "pyproject.toml it is text, not an image"
    page.select_option("#results [name=sort]", "least")
    scores = [float(score) for score in tiles.evaluate_all("all => all.map(one => one.dataset.score)")]
    assert scores == sorted(scores)
    page.select_option("#results [name=label]", "ship")
    assert page.locator("#results li:visible").all_inner_texts()[-1].startswith("ship")
    page.fill("#results [name=least]", "99")
    page.wait_for_selector("#results .vp-none:visible")
    with page.expect_download() as download:
        page.click("#results a[download$=json]")
    assert [one["label"] for one in json.loads(Path(download.value.path()).read_text("utf-8"))] == [
        "cat", "ship", None, "cat",
    ]  # fmt: skip
    with page.expect_download() as download:
        page.click("#results a[download$=csv]")
    lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()
    expected = predict(CAT, "demo")
    assert lines[0] == "source,label,score,index,model,error"
    name, label, score, *rest = lines[1].split(",")
    assert (name, label, rest) == ("cat.png", expected.label, [str(expected.index), "demo", ""])
    assert float(score) == pytest.approx(expected.score, abs=1e-6)  # a batch rounds in another order
    assert lines[4].startswith("'=1+")
    assert page.locator("#results b b").count() == 0


def test_the_language_is_switched_in_the_middle_of_work(web: WebUI, visit: Any, tmp_path: Path) -> None:
    visitor = visit(web.url, locale="en-GB")
    page = visitor.page
    page.click("#several button")
    page.locator("#files input[type=file]").set_input_files([CAT, ROOT / "pyproject.toml"])
    page.wait_for_selector("#files :text('pyproject')")
    page.click("#classify-all")
    page.wait_for_selector("#results :text('1 of 2 images classified')")
    page.locator("#image input[type=file]").set_input_files(CAT)
    visitor.answer("cat.png")
    visitor.choose_language("中文", "分类")
    page.wait_for_selector("#answer :text('预测类别')")
    page.wait_for_selector("#answer :text('预测类别：猫')")
    assert "共 2 张图片，已分类 1 张" in page.inner_text("#results")
    assert page.locator("#results .vp-bad li").inner_text() == "pyproject.toml 这是文本，不是图片。"
    assert page.locator("#image img").count() == 1
    page.click("#past button")
    page.wait_for_selector("#history li:has-text('猫')")
    page.wait_for_function("document.documentElement.lang === 'zh-CN'")
    page.wait_for_function("location.search.includes('lang=zh')")
    visitor.choose_language("English", "Classify")
    assert visitor.answer("cat.png") == "Predicted class: cat"


@pytest.mark.long
def test_two_models_beside_each_other(visit: Any) -> None:
    mini = ROOT / "tests" / "golden" / "timm_vit_small_mini"
    server = WebUI("--allow-models", str(mini))
    try:
        visitor = visit(server.url)
        page = visitor.page
        page.locator("#image input[type=file]").set_input_files(CAT)
        visitor.answer("cat.png")
        page.click("#beside button")
        page.click("#other-model input")
        page.locator("#other-model [role=option]", has_text="mini").click()
        page.click("#compare-button")
        page.wait_for_selector("#compared section >> nth=1")
        labels = page.locator("#compared .vp-class").all_inner_texts()
        assert labels == [predict(CAT, model).label for model in ("demo", mini)]
        assert [page.locator("#compared section").nth(n).locator("i").count() for n in (0, 1)] == [64, 196]
        visitor.choose_language("中文", "分类")
        page.wait_for_selector("#compared :text('猫') >> nth=0")
    finally:
        server.stop()


@pytest.mark.long
def test_nothing_on_the_page_is_of_another_image_or_language(web: WebUI, visit: Any, tmp_path: Path) -> None:
    """However soon after an image the language is chosen; without an image there is no answer."""
    visitor = visit(web.url, locale="en-GB")
    page = visitor.page
    page.locator("#image input[type=file]").set_input_files(CAT)
    visitor.answer("cat.png")
    names = {"English": "Predicted class", "中文": "预测类别"}
    for number in range(8):
        name, lang = ("rocket.jpg", "cat.png")[number % 2], ("中文", "English")[number % 2]
        page.set_input_files("#image input[type=file]", ROOT / "examples" / name)
        page.wait_for_timeout(30 * number)
        page.get_by_label(lang, exact=True).check()
        page.wait_for_selector(f"#answer .vp-note:has-text('{name}')")
        page.wait_for_selector(f"#answer .vp-class:has-text('{names[lang]}')")
        page.wait_for_load_state("networkidle")
        assert name in page.inner_text("#answer")
        assert names[lang] in page.inner_text("#answer")
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(65 * 2**20)
    page.set_input_files("#image input[type=file]", large)
    page.wait_for_selector("#notice span:visible:has-text('larger than 64 MB')")
    visitor.choose_language("中文", "分类")
    page.wait_for_selector("#notice span:visible:has-text('超过 64 MB')")  # it is not lost
    visitor.choose_language("English", "Classify")
    page.get_by_label("Remove Image").click()
    page.wait_for_selector("#hint :text('The answer appears here')")
    assert page.inner_text("#answer").strip() == ""


@pytest.mark.long
def test_back_and_forward(web: WebUI, visit: Any) -> None:
    page = visit(f"{web.url}/?lang=en").page
    for tab in ("structure", "api"):
        page.click(f"#tab-{tab}-button")
        page.wait_for_function(f"location.search.includes('tab={tab}')")
    for go, tab in ((page.go_back, "structure"), (page.go_back, "classify"), (page.go_forward, "structure")):
        go()
        page.wait_for_selector(f"#tab-{tab}-button[aria-selected=true]")
    page.go_back()
    page.go_forward()  # however quickly
    page.go_forward()
    page.wait_for_selector("#tab-api-button[aria-selected=true]")
    assert "tab=api" in page.url
    assert "lang=en" in page.url


@pytest.mark.long
def test_the_address_carries_the_state_over_a_reload(web: WebUI, visit: Any) -> None:
    visitor = visit(f"{web.url}/?lang=zh&top_k=2&path=/etc/passwd&t=x", locale="en-GB")
    page = visitor.page
    page.wait_for_selector("#classify-button:text-is('分类')")
    page.locator("#image input[type=file]").set_input_files(CAT)
    visitor.answer("cat.png")
    assert page.locator("#answer .vp-bars li").count() == 2
    visitor.choose_tab(2)
    page.wait_for_selector("#structure .vit-structure")
    page.wait_for_function("location.search.includes('tab=structure')")
    page.reload()
    page.wait_for_selector("#structure .vit-structure")
    page.wait_for_selector("#structure :text('参数量')")
    assert "模型结构" in page.get_by_role("tab", selected=True).inner_text()
    assert page.input_value("#top-k input[type=number]") == "2"


@pytest.mark.long
def test_the_api_tab_shows_this_servers_address(web: WebUI, visit: Any) -> None:
    page = visit(f"{web.url}/?tab=api").page
    page.wait_for_selector(f".vp-code:has-text('Client(\"{web.url}\")')")


def test_a_chinese_page_has_no_english_sentence(web: WebUI, visit: Any) -> None:
    visitor = visit(web.url, locale="zh-CN")
    page = visitor.page
    names = {"ViT pipeline", "API", "English", "cat", "dog", "deer", "frog", "bird", "horse", "ship", "truck"}
    names |= {"CSV", "JSON", "demo", "vit-base", "vit-small", "cpu", "float32", "cat.png", ".png"}
    # names that Gradio's own buttons have for screen readers, which it does not translate
    names |= {"Capture from camera", "Click to upload or drop files", "Paste from clipboard", "Upload file"}
    names |= {
        "File upload",
        "Remove Image",
        "Remove this file",
        "Clear",
        "Submit",
        "Empty value",
        "select source",
    }
    names |= {"More tabs"} | {path.name for path in CAT.parent.iterdir()}
    names |= {"https://…/cat.jpg", "pip install gradio_client", "/health/live", "/health/ready"}
    page.wait_for_selector("#classify-button:text-is('分类')")
    page.wait_for_selector("#hint .vp-empty")
    found = set(page.evaluate(LATIN))
    page.locator("#image input[type=file]").set_input_files(CAT)
    visitor.answer("cat.png")
    page.click("#several button")
    page.locator("#files input[type=file]").set_input_files([CAT])
    page.wait_for_selector("#files :text('.png')")
    page.click("#classify-all")
    page.wait_for_selector("#results li")
    page.click("#past button")
    page.wait_for_timeout(300)
    found |= set(page.evaluate(LATIN))
    for tab in (1, 3):
        page.get_by_role("tab").nth(tab).click()
        page.wait_for_timeout(300)
        found |= set(page.evaluate(LATIN))
    assert {text for text in found - names if not text.startswith("demo · ")} == set()  # · the time


@pytest.mark.long
def test_chinese_was_chosen_in_an_english_browser(web: WebUI, visit: Any) -> None:
    """Gradio's own words, which are in the browser's language, are replaced."""
    visitor = visit(web.url, locale="en-US")
    visitor.page.wait_for_load_state("networkidle")
    visitor.choose_language("中文", "分类")
    visitor.page.locator("#several button").first.click()
    area = visitor.page.locator("#files [data-testid=upload-text]")
    area.wait_for(state="attached")
    assert "Drop" not in visitor.page.inner_text("#several")
    shown = "e => [getComputedStyle(e).visibility, getComputedStyle(e, '::after').content]"
    assert area.evaluate(shown) == ["hidden", '"把文件拖到这里，或点击选择"']


@pytest.mark.long
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_camera_never_queues(web: WebUI, visit: Any, lang: str) -> None:
    visitor = visit(f"{web.url}/?lang={lang}")
    page = visitor.page
    page.wait_for_load_state("networkidle")
    page.locator("#live button").first.click()
    running = {"now": 0, "most": 0, "all": 0}

    def count(step: int) -> Any:
        def note(request: Any) -> None:
            if "component_server" in request.url:
                running["now"] += step
                running["all"] += step > 0
                running["most"] = max(running["most"], running["now"])

        return note

    for event, step in (("request", 1), ("requestfinished", -1), ("requestfailed", -1)):
        page.on(event, count(step))
    button = page.locator(".vp-live button")
    button.click()
    page.wait_for_selector(".vp-live .vp-bars li")
    labels = ViTPipeline.from_pretrained("demo", device="cpu").labels
    assert page.locator(".vp-live .vp-class").inner_text() in {named(lang, label) for label in labels}
    wait_for(lambda: page.wait_for_timeout(50) or running["all"] >= 5)
    assert running["most"] == 1
    button.click()
    page.wait_for_selector(".vp-live video", state="hidden")
    page.wait_for_timeout(500)
    before = running["all"]
    page.wait_for_timeout(1500)
    assert running["all"] == before
    button.click()
    page.wait_for_selector(".vp-live video")
    page.get_by_role("tab").nth(1).click()  # out of sight, nothing is sent
    page.wait_for_timeout(1000)
    before = running["all"]
    page.wait_for_timeout(1500)
    assert running["all"] == before


@pytest.mark.long
def test_without_a_camera_the_page_says_why(web: WebUI, visit: Any) -> None:
    page = visit(f"{web.url}/?lang=zh").page
    page.wait_for_load_state("networkidle")
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('denied')); }"
    )
    page.locator("#live button").first.click()
    page.locator(".vp-live button").click()
    page.wait_for_selector(".vp-live .vp-answer:has-text('没有可用的摄像头')")


@pytest.mark.long
def test_the_structure_with_the_image_traced_through_it(web: WebUI, visit: Any) -> None:
    visitor = visit(web.url)
    page = visitor.page
    page.locator("#image input[type=file]").set_input_files(CAT)
    visitor.answer("cat.png")
    page.get_by_role("tab", name="Structure").click()
    page.wait_for_selector("#structure .vit-structure")
    plain = page.inner_text("#structure")
    assert "2,693,578" in plain
    assert "ViTForImageClassification" in plain
    page.get_by_label("Trace my image through it").check()
    page.wait_for_selector("#structure .vs-seen img")
    assert "Predicted class: cat (75.27%)" in page.inner_text("#structure")
    numbers = page.locator("#structure .vs-numbers table")
    assert not numbers.is_visible()
    page.get_by_text("The numbers").click()
    assert "vit.layers.0.attention.q_proj" in numbers.inner_text()
    page.locator("#structure summary", has_text="layers.0–5").first.click()
    page.locator("#structure summary", has_text="vit.layers.0–5.attention").click()
    page.get_by_label("中文", exact=True).check()
    page.wait_for_selector("#structure .vs-text:has-text('残差连接绕过它')")
    assert page.locator("#structure details[open]").count() == 4  # vit, a layer, its attention, the numbers
    assert numbers.is_visible()


@pytest.mark.long
def test_a_second_model_from_a_hub_with_progress(
    hub: HubServer, tiny_files: dict[str, bytes], visit: Any
) -> None:
    hub.add("acme/tiny", tiny_files | {"model.safetensors": tiny_files["model.safetensors"]})
    hub.add("acme/broken", tiny_files | {"config.json": b"{}"})
    hub.fault("model.safetensors", delay=1)
    server = WebUI("--allow-models", "acme/tiny,acme/broken")
    try:
        visitor = visit(server.url)
        page = visitor.page

        def load(name: str) -> None:
            page.click("#model-choice input")
            page.locator("#model-choice [role=option]", has_text=name).click()
            page.click("#load-button")

        visitor.choose_tab(1)
        assert "2,693,578" in page.inner_text("#model-card")
        load("acme/tiny")
        page.wait_for_selector("#model-card :text('Downloading')")
        page.wait_for_selector("#load-status :text('acme/tiny is loaded and in use.')")
        card = page.inner_text("#model-card")
        for fact in ("acme/tiny", "ModelScope", "master", "cpu", "float32", "16×16 pixels"):
            assert fact in card
        assert page.inner_text("#badge b") == "acme/tiny"
        load("acme/broken")
        page.wait_for_selector("#load-status [role=alert]")
        assert "The model's files cannot be used." in page.inner_text("#load-status")
        assert "acme/tiny stays in use." in page.inner_text("#load-status")
        visitor.choose_tab(0)
        page.locator("#image input[type=file]").set_input_files(CAT)
        assert "thing" in visitor.answer("cat.png")

        other = visitor.context.new_page()  # a second tab: each keeps its own model
        other.goto(server.url)
        other.wait_for_selector("#badge b:text-is('demo')")
        other.set_input_files("#image input[type=file]", CAT)
        other.wait_for_selector("#answer .vp-class:has-text('cat')")
        page.set_input_files("#image input[type=file]", ROOT / "examples" / "boat.jpg")
        assert "thing" in visitor.answer("boat.jpg")
        assert page.inner_text("#badge b") == "acme/tiny"
        page.wait_for_function("location.search.includes('model=acme')")
        page.reload()  # it is in memory: the address names it, and it is used
        page.wait_for_selector("#badge b:text-is('acme/tiny')")
        other.goto(f"{server.url}/?model=acme/broken")  # an address alone loads nothing
        other.wait_for_selector("#load-status :text('acme/broken is not loaded')")
        assert other.inner_text("#badge b") == "demo"
    finally:
        assert server.stop() == 0


@pytest.mark.long
def test_the_keyboard_is_enough(web: WebUI, visit: Any) -> None:
    visitor = visit(web.url)
    page = visitor.page
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.innerText.trim()"))
        if reached[-1] == "classify-button":
            break
    assert page.evaluate("document.querySelectorAll('#language input').length") == 2
    assert reached[-1] == "classify-button", reached
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer [role=alert]:has-text('Choose an image first')")


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.long), "dark"])
@pytest.mark.parametrize("locale", [pytest.param("en-US", marks=pytest.mark.long), "zh-CN"])
def test_nothing_is_cut_on_a_phone(web: WebUI, visit: Any, scheme: str, locale: str) -> None:
    visitor = visit(web.url, **PHONE, locale=locale, color_scheme=scheme)
    page = visitor.page
    page.locator("#image input[type=file]").set_input_files(CAT)
    visitor.answer("cat.png")
    page.wait_for_function(
        "document.querySelector('#answer').getBoundingClientRect().top < innerHeight / 2"  # scrolled there
    )
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.get_by_role("tab").count() == 5  # none went into a menu
    found: list[str] = []
    for tab in range(5):
        visitor.choose_tab(tab)
        page.wait_for_timeout(200)
        if tab == 2:
            page.wait_for_selector("#structure .vit-structure")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        found += barriers(page)
    assert found == []
