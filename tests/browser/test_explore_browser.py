"""The page of explore in a real browser, from disk, without a network. Skipped where there is no Chromium."""

from __future__ import annotations

import copy
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from conftest import PATIENCE
from PIL import Image
from serve import barriers
from tiny import change_json, make_checkpoint
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, ViTModel

from vit_pipeline import ViTPipeline
from vit_pipeline.explorer import explore

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "examples"
CAT = PHOTOS / "cat.png"
STAGES = ("patches", "embedding", "positions", "layers", "output")


class Reader:
    """Opens a page from disk with no network, and watches what it says and whom it asks."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.path = path
        size = {"width": 1280, "height": 900}
        self.context = browser.new_context(
            **{"viewport": size, "offline": True, "locale": "en-US", **options}
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body:not(.starting)")

    def do(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def forward(self, image: Any, changes: dict[str, Any] | None = None) -> np.ndarray:
        """Logits after every layer, as the page computes them, (L + 1, C)."""
        call = """async ([bytes, changes]) =>
            (await explorer.engine('forward', new Uint8Array(bytes), changes)).lens.map(row => [...row])"""
        return np.array(self.do(call, [np.asarray(image).ravel().tolist(), changes or {}]))

    def settle(self) -> None:
        """What was asked for has been computed and drawn."""
        self.do("async () => { await explorer.rerun; }")
        self.do("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def go(self, stage: str) -> None:
        if stage in ("layer", "head"):
            self.go("layers")
            self.page.locator(".layer-name" if stage == "layer" else ".heads .cell").first.click()
        else:
            self.page.locator(f".node[data-stage={stage}]").first.click()
        self.page.wait_for_selector(f"#detail[data-stage={stage}]")
        self.settle()

    def close(self) -> None:
        self.context.close()
        assert self.said == []
        assert {url for url in self.asked if not url.startswith("blob:")} == {self.path.as_uri()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def read(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    """Opens a page of an image; when the test is over, it has said nothing and asked nobody."""
    readers: list[Reader] = []

    def open(image: Any, pipe: ViTPipeline, live: bool | None = None, **options: Any) -> Reader:
        path = tmp_path / f"page{len(readers)}.html"
        explore(image, pipe, live=live).save(path)
        readers.append(Reader(browser, path, **options))
        return readers[-1]

    yield open
    for reader in readers:
        reader.close()


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


@pytest.fixture(scope="module")
def rounded(demo: ViTPipeline) -> Any:
    """The embedded model with the weights that the page has."""
    model = copy.deepcopy(demo.model).half().float()
    model.set_attn_implementation("eager")
    return model


@torch.no_grad()
def torch_lens(model: Any, pixel_values: torch.Tensor) -> np.ndarray:
    states = model(pixel_values, output_hidden_states=True).hidden_states
    return np.array([model.classifier(model.vit.layernorm(state)[:, 0])[0].numpy() for state in states])


def seen(pipe: ViTPipeline, image: Any) -> Image.Image:
    return pipe.explain(image).image


@pytest.mark.slow
def test_live_logits_are_torchs(demo: ViTPipeline, rounded: Any, read: Callable[..., Reader]) -> None:
    reader = read(CAT, demo)
    for photo in ("cat.png", "rocket.jpg", "boat.jpg"):
        found = reader.forward(seen(demo, PHOTOS / photo))
        expected = torch_lens(rounded, demo.preprocess(demo.read(PHOTOS / photo)))
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert found[-1].argmax() == expected[-1].argmax()
    shown = reader.page.inner_text(".verdict")
    assert shown == f"cat, {torch.tensor(reader.forward(seen(demo, CAT))[-1]).softmax(-1).max():.1%}"


@pytest.mark.long
def test_live_logits_on_cifar(demo: ViTPipeline, rounded: Any, read: Callable[..., Reader]) -> None:
    """VIT_PIPELINE_CIFAR10: a folder with ``test/<class>/<image>``, a JPEG copy of CIFAR-10."""
    folder = os.environ.get("VIT_PIPELINE_CIFAR10")
    if not folder:
        pytest.skip("VIT_PIPELINE_CIFAR10 does not say where CIFAR-10's images are")
    reader = read(CAT, demo)
    paths = [path for each in sorted(Path(folder, "test").iterdir()) for path in sorted(each.iterdir())[:10]]
    images = [*map(demo.read, paths)]
    with torch.no_grad():
        expected = rounded(demo.preprocess(images)).logits.numpy()
    found = np.array([reader.forward(image)[-1] for image in images])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.argmax(-1) == expected.argmax(-1)).all()


@pytest.mark.parametrize("filter", range(6))
def test_resizing_is_pillows(filter: int, demo: ViTPipeline, shared_reader: Reader) -> None:
    """To the pixel, up and down, with a shortest edge and a crop as well."""
    image = demo.read(PHOTOS / "coffee.png").resize((76, 50))
    settings: list[dict[str, Any]] = [
        {"shortest": None, "size": [32, 32], "crop": None},
        {"shortest": None, "size": [113, 47], "crop": None},
        {"shortest": None, "size": [9, 70], "crop": None},
        {"shortest": 31, "size": [None, None], "crop": [23, 30]},
    ]
    script = """([bytes, settings]) => [...resizeImage(new Uint8Array(bytes), 50, 76, settings)]"""
    for one in settings:
        height, width = one["size"]
        size = {"shortest_edge": one["shortest"]} if one["shortest"] else {"height": height, "width": width}
        crop = dict(zip(("height", "width"), one["crop"] or (1, 1), strict=True))
        plain = {"resample": filter, "do_rescale": False, "do_normalize": False}
        processor = ViTImageProcessorPil(size=size, crop_size=crop, do_center_crop=bool(one["crop"]), **plain)
        expected = processor(images=[image], return_tensors="np").pixel_values[0].transpose(1, 2, 0)
        pixels = np.asarray(image).ravel().tolist()
        own = {"filter": filter, "evenCrop": False, "tallFirst": int(PIL.__version__.split(".")[0]) >= 13}
        found = shared_reader.do(script, [pixels, one | own])
        assert np.abs(np.array(found).reshape(expected.shape) - expected).max() == 0


@pytest.fixture(scope="module")
def shared_reader(
    browser: Any, demo: ViTPipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    path = tmp_path_factory.mktemp("page") / "cat.html"
    explore(CAT, demo).save(path)
    assert path.stat().st_size < 8e6
    reader = Reader(browser, path)
    yield reader
    reader.close()


@pytest.mark.long
def test_another_image(demo: ViTPipeline, rounded: Any, shared_reader: Reader) -> None:
    """Chosen or dropped: the same pixels as in Python, what is transparent on white; a bad one is said."""
    reader = shared_reader
    file = io.BytesIO()
    photo = Image.open(PHOTOS / "coffee.png").convert("RGBA")
    photo.putalpha(Image.linear_gradient("L").point(lambda x: 255 if x > 99 else 0).resize(photo.size))
    photo.save(file, "PNG")
    reader.page.set_input_files(
        "#file", {"name": "a<b>.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    reader.page.wait_for_selector("#said:has-text('a<b>.png')")
    image = demo.read(file.getvalue())
    pixels = np.array(reader.do("[...explorer.bytes]")).reshape(32, 32, 3)
    assert np.abs(pixels - np.asarray(seen(demo, image)).astype(int)).max() <= 1
    expected = torch_lens(rounded, demo.preprocess(image))[-1]
    np.testing.assert_allclose(reader.do("[...explorer.now.logits()]"), expected, atol=0.05)
    bad = {"name": "bad.png", "mimeType": "image/png", "buffer": b"no image"}
    reader.page.set_input_files("#file", bad)
    reader.page.wait_for_selector("#said:has-text('bad.png')")
    np.testing.assert_allclose(reader.do("[...explorer.now.logits()]"), expected, atol=0.05)
    reader.page.locator(".drop button").click()  # back to the first one
    reader.page.wait_for_selector(".drop button", state="hidden")
    reader.settle()
    assert "cat.png" in reader.page.inner_text(".top")
    assert np.array_equal(reader.do("[...explorer.bytes]"), np.asarray(seen(demo, CAT)).ravel())


#: points at cells of the matrix, one after another, and reads what is then shown
POINT = """async cells => {
  const detail = document.getElementById('detail'), square = detail.querySelector('canvas.square');
  const shown = [];
  for (const [layer, head, i, j, tokens] of cells) {
    const slider = detail.querySelector('.controls input');
    slider.value = layer;
    slider.dispatchEvent(new Event('input'));
    detail.querySelector(`.controls [data-value="${head}"]`).click();
    const {left, top, width, height} = square.getBoundingClientRect();
    const at = {clientX: left + (j + 0.5) / tokens * width, clientY: top + (i + 0.5) / tokens * height};
    square.dispatchEvent(new PointerEvent('pointermove', {pointerType: 'mouse', ...at}));
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const {layer: l, head: h, query, key} = document.getElementById('share').dataset;
    shown.push([+l, +h, +query, +key, document.getElementById('share').textContent]);
  }
  return shown;
}"""


def check_numbers(reader: Reader, attentions: np.ndarray, allowed: Callable[..., float]) -> None:
    """Point at 50 cells of the matrix: the number shown is the attention, to its digits."""
    reader.go("head")
    random = np.random.default_rng(0)
    sizes = attentions.shape
    cells = [[int(random.integers(size)) for size in sizes] for _ in range(50)]
    shown = reader.do(POINT, [[*cell, sizes[-1]] for cell in cells])
    assert [row[:4] for row in shown] == cells
    for layer, head, i, j, text in shown:
        assert abs(float(text) - attentions[layer, head, i, j]) <= 0.00005 + allowed(layer, head, i)


@pytest.mark.long
def test_numbers_on_pointing(demo: ViTPipeline, rounded: Any, shared_reader: Reader) -> None:
    with torch.no_grad():
        found = rounded(demo.preprocess(demo.read(CAT)), output_attentions=True).attentions
    check_numbers(shared_reader, torch.cat(found).numpy(), lambda *_: 1e-6)


def test_recorded_numbers(demo: ViTPipeline, read: Callable[..., Reader]) -> None:
    reader = read(CAT, demo, live=False)
    e = demo.explain(CAT)
    check_numbers(reader, e.attentions, lambda layer, head, i: e.attentions[layer, head, i].max() / 255 / 2)
    scores = reader.do(
        "explorer.now.lens, [0, 1, 2, 3, 4, 5, 6].map(after => Math.max(...explorer.now.scores(after)))"
    )
    np.testing.assert_allclose(scores, [at.score for at in e.lens], atol=1e-6)
    assert reader.page.locator(".change input:enabled, .change button:enabled").count() == 0
    assert reader.page.inner_text(".verdict") == f"cat, {e.prediction.score:.1%}"  # type: ignore[union-attr]


def torch_edit(rounded: Any, pixel_values: torch.Tensor, changes: dict[str, Any]) -> np.ndarray:
    """The same change, made in torch."""
    model = copy.deepcopy(rounded)
    patches = torch.nn.functional.unfold(pixel_values, 4, stride=4)  # (1, 48, 64)
    if "order" in changes:
        patches = patches[:, :, changes["order"]]
    for place in changes.get("gray", []):
        patches[:, :, place] = (128 / 255 - 0.5) / 0.5
    pixel_values = torch.nn.functional.fold(patches, (32, 32), 4, stride=4)
    if changes.get("zeroPositions"):
        model.vit.embeddings.position_embeddings.data[:, 1:] = 0
    for layer in model.vit.layers:
        layer.attention.scaling /= changes.get("temperature", 1)
    for muted in changes.get("muted", []):
        layer, head = map(int, muted.split(","))

        def mute(_: Any, given: Any, part: slice = slice(head * 64, head * 64 + 64)) -> Any:
            mixed = given[0].clone()
            mixed[..., part] = 0
            return (mixed,)

        model.vit.layers[layer].attention.o_proj.register_forward_pre_hook(mute)
    dropped = changes.get("dropped", [])
    kept = [layer for number, layer in enumerate(model.vit.layers) if number not in dropped]
    model.vit.layers = torch.nn.ModuleList(kept)
    with torch.no_grad():
        return model(pixel_values).logits[0].numpy()  # type: ignore[no-any-return]


def at_patch(reader: Reader, place: int) -> tuple[float, float]:
    painter = reader.page.locator(".painter .picker")
    painter.scroll_into_view_if_needed()
    box = painter.bounding_box()
    return box["x"] + (place % 8 + 0.5) * box["width"] / 8, box["y"] + (place // 8 + 0.5) * box["height"] / 8


@pytest.mark.slow
def test_each_switch_is_torchs_edit(demo: ViTPipeline, rounded: Any, shared_reader: Reader) -> None:
    reader, page = shared_reader, shared_reader.page
    pixel_values = demo.preprocess(demo.read(CAT))
    swapped = list(range(64))
    swapped[10], swapped[53] = 53, 10

    def gray() -> None:
        page.mouse.move(*at_patch(reader, 27))
        page.mouse.down()
        for place in (28, 29):
            page.mouse.move(*at_patch(reader, place))
        page.mouse.up()

    def swap() -> None:
        page.locator("[data-value=swap]").click()
        page.mouse.move(*at_patch(reader, 10))
        page.mouse.down()
        page.mouse.move(*at_patch(reader, 53))
        page.mouse.up()

    def slide(number: int, log2: float) -> None:
        page.locator(".change input[type=range]").nth(number).fill(str(log2))

    switches: list[tuple[Callable[[], None], dict[str, Any]]] = [
        (gray, {"gray": [27, 28, 29]}),
        (swap, {"order": swapped}),
        (lambda: page.locator(".change input[type=checkbox]").check(), {"zeroPositions": True}),
        (lambda: page.locator(".switches .layer").nth(2).click(), {"dropped": [2]}),
        (lambda: page.locator(".switches .head").nth(6 + 4).click(), {"muted": ["4,1"]}),
        (lambda: slide(0, 1), {"temperature": 2}),
    ]
    untouched = torch_edit(rounded, pixel_values, {})
    all_at_once: dict[str, Any] = {}
    for switch, changes in switches:
        switch()
        reader.settle()
        expected = torch_edit(rounded, pixel_values, changes)
        np.testing.assert_allclose(reader.do("[...explorer.now.logits()]"), expected, atol=1e-4)
        assert np.abs(expected - untouched).max() > 0.01
        np.testing.assert_allclose(reader.do("[...explorer.base.logits()]"), untouched, atol=1e-4)
        page.locator(".reset").click()
        reader.settle()
        np.testing.assert_allclose(reader.do("[...explorer.now.logits()]"), untouched, atol=1e-4)
        all_at_once |= changes
    found = reader.forward(seen(demo, CAT), all_at_once)[-1]
    np.testing.assert_allclose(found, torch_edit(rounded, pixel_values, all_at_once), atol=1e-4)
    slide(1, -1)
    reader.settle()
    expected = torch.tensor(untouched / 0.5).softmax(-1).numpy()
    np.testing.assert_allclose(reader.do("[...explorer.now.scores()]"), expected, atol=1e-5)
    values = page.locator(".prediction .bar-value").all_inner_texts()
    assert values == [f"{share:.1%}" for share in expected[np.argsort(-expected)]]
    page.locator(".reset").click()
    reader.settle()


@pytest.mark.long
def test_swapping_by_keys_or_by_two_clicks(shared_reader: Reader) -> None:
    reader, page = shared_reader, shared_reader.page
    page.locator("[data-value=swap]").click()
    page.locator(".painter .picker").focus()

    def by_keys() -> None:
        for key in ("Home", "Enter", "ArrowRight", "Enter"):
            page.keyboard.press(key)

    def by_clicks() -> None:
        for place in (0, 1):
            page.mouse.click(*at_patch(reader, place))

    for swap in (by_keys, by_clicks):
        swap()
        reader.settle()
        assert reader.do("explorer.changes.order.slice(0, 3)") == [1, 0, 2]
        page.locator(".reset").click()
        reader.settle()
    page.locator("[data-value=gray]").click()


@pytest.mark.long
def test_what_is_painted_on_stays_where_it_is(shared_reader: Reader) -> None:
    """Also while the prediction beside it changes; a muted head's map does not look used."""
    reader, page = shared_reader, shared_reader.page
    before = at_patch(reader, 20)
    page.mouse.click(*before)
    reader.settle()
    assert reader.do("explorer.changes.gray") == [20]
    assert at_patch(reader, 20) == before
    reader.go("layers")
    image = "document.querySelector('.heads .cell canvas').toDataURL()"
    page.locator(".reset").click()
    reader.settle()
    untouched = reader.do(image)
    page.locator(".switches .head").first.click()
    reader.settle()
    assert reader.do(image) != untouched
    page.locator(".reset").click()
    reader.settle()
    assert reader.do(image) == untouched


@pytest.mark.long
def test_which_patches_matter(demo: ViTPipeline, rounded: Any, shared_reader: Reader) -> None:
    """How the probability of the first class falls when a patch is gray, as the same edits in torch."""
    reader = shared_reader
    reader.go("layers")
    reader.page.locator("#detail .primary").click()
    reader.page.wait_for_selector("#detail figcaption:has-text('points')")
    pixel_values = demo.preprocess(demo.read(CAT))
    logits = [torch_edit(rounded, pixel_values, {"gray": gray}) for gray in ([], *([i] for i in range(64)))]
    scores = torch.tensor(np.array(logits)).softmax(-1)
    best = scores[0].argmax()
    found = reader.do("[...explorer.evidence.losses]")
    np.testing.assert_allclose(found, scores[0, best] - scores[1:, best], atol=1e-4)
    reader.page.locator(".switches .head").first.click()  # another run: its map is not this one
    reader.page.wait_for_selector("#detail figcaption:has-text('something was changed')")
    reader.page.locator(".reset").click()
    reader.settle()


@pytest.mark.long
def test_without_a_worker_the_page_itself_computes(demo: ViTPipeline, tmp_path: Path, browser: Any) -> None:
    """As in a notebook that allows none; and in a notebook's frame."""
    page = explore(CAT, demo)
    allowed = re.sub("worker-src blob:", "worker-src 'none'", page.page)
    (tmp_path / "none.html").write_text(allowed, "utf-8")
    (tmp_path / "frame.html").write_text(f"<!doctype html><body>{page._repr_html_()}", "utf-8")
    context = browser.new_context(offline=True)
    for name in ("none.html", "frame.html"):
        opened = context.new_page()
        opened.goto((tmp_path / name).as_uri())
        frame = opened.frames[-1]
        frame.wait_for_selector("body:not(.starting)", timeout=PATIENCE * 1000)
        assert frame.locator(".verdict").inner_text().startswith("cat, 75.3%")
    context.close()


@pytest.mark.long
@pytest.mark.parametrize("live", [True, False])
def test_the_tour_by_keyboard_alone(demo: ViTPipeline, read: Callable[..., Reader], live: bool) -> None:
    """Tab and Enter lead through all stations; until it is answered, nothing behind the question is shown."""
    reader = read(CAT, demo, live=live)
    page = reader.page

    def focus(selector: str) -> None:
        for _ in range(200):
            if reader.do("s => document.activeElement.matches(s)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {selector}")

    focus("[data-value=tour]")
    page.keyboard.press("Enter")
    stations = 0
    while True:
        page.wait_for_selector(".tour .option")
        assert reader.do("document.getElementById('detail').inert")
        focus(".tour .option")
        page.keyboard.press("Enter")
        page.wait_for_selector(".tour .answer")
        assert not reader.do("document.getElementById('detail').inert")
        assert page.locator(".tour .option.right").count() == 1
        assert "{" not in page.inner_text(".tour")
        reader.settle()
        stations += 1
        focus(".tour .primary")
        if page.locator(".tour .score").count():
            break
        title = page.inner_text(".tour h2")
        page.keyboard.press("Enter")
        page.wait_for_selector(f".tour h2:not(:text-is('{title}'))")
    page.keyboard.press("Enter")
    page.wait_for_selector(".tour", state="hidden")
    reader.settle()
    assert stations == (13 if live else 10)
    assert page.locator(".prediction .bar-before").count() == 0  # nothing stays changed


#: what stands out of the screen to the right, and cannot be scrolled into sight in a part of its own
WIDER = """[...document.querySelectorAll('#page *')].filter(one =>
  one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.overview, .scroll, .hidden')
).map(one => one.className || one.tagName)"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "locale", "scheme"),
    [(390, "zh-CN", "dark"), pytest.param(1920, "en-US", "light", marks=pytest.mark.long)],
)
def test_every_view(
    demo: ViTPipeline, read: Callable[..., Reader], width: int, locale: str, scheme: str
) -> None:
    """In both languages nothing is wider than the screen or bars anybody; all of a layer can be opened."""
    size = {"width": width, "height": 700}
    reader = read(CAT, demo, viewport=size, locale=locale, color_scheme=scheme)
    assert reader.page.get_attribute("html", "lang") == {"zh-CN": "zh-CN", "en-US": "en"}[locale]
    for stage in (*STAGES, "layer", "head"):
        reader.go(stage)
        for block in reader.page.locator(".diagram .block").all():
            block.click()
            reader.settle()
            assert not reader.do(WIDER), (stage, block.get_attribute("data-block"))
        for language in ("zh", "en"):
            reader.page.locator(f".top [data-value={language}]").click()
            reader.settle()
            assert not reader.do(WIDER), (language, stage)
            assert barriers(reader.page) == [], (language, stage)


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "{row} **b** [q:x] <!--",
    "a",
    "猫",
]


@pytest.mark.parametrize("live", [True, False])
def test_hostile_names_are_text(read: Callable[..., Reader], tmp_path: Path, live: bool) -> None:
    folder = make_checkpoint(tmp_path / "<b onclick=alert(3)>")
    change_json(folder / "config.json", id2label=dict(enumerate(HOSTILE)))
    image = tmp_path / "<svg onload=alert(4)>'\".png"
    Image.open(CAT).save(image)
    reader = read(image, ViTPipeline.from_pretrained(folder, device="cpu"), live=live)
    for stage in (*STAGES, "layer", "head"):
        reader.go(stage)
    assert set(reader.page.locator(".prediction .bar-label").all_inner_texts()) == set(HOSTILE)
    assert image.name in reader.page.inner_text(".top")
    assert "<b onclick=alert(3)>" in reader.page.inner_text(".top")
    assert reader.page.locator("#page img, #page svg, #page script").count() == 0


@pytest.mark.long
def test_models_of_other_kinds(read: Callable[..., Reader]) -> None:
    """No classifier, one class, another activation; oblong patches, no bias, many classes: views open."""
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"hidden_size": 24, "intermediate_size": 48, "image_size": 16}
    oblong: dict[str, Any] = {"image_size": [16, 24], "patch_size": [4, 8], "qkv_bias": False}
    oblong |= {"id2label": {i: f"class {i}" for i in range(40)}}
    models = [
        ViTModel(ViTConfig(**sizes, patch_size=4), add_pooling_layer=False),
        ViTForImageClassification(ViTConfig(**sizes, patch_size=4, id2label={0: "one"})),
        ViTForImageClassification(ViTConfig(**sizes, patch_size=8, hidden_act="relu")),
        ViTForImageClassification(ViTConfig(**sizes | oblong)),
    ]
    for model, live in zip(models, (False, False, False, True), strict=True):
        size = model.config.image_size
        height, width = size if isinstance(size, list) else (size, size)
        pipe = ViTPipeline(model, ViTImageProcessorPil(size={"height": height, "width": width}))
        reader = read(CAT, pipe)
        assert reader.do("Boolean(explorer.engine)") is live
        for stage in (*STAGES, "layer", "head"):
            reader.go(stage)
        if live:
            expected = torch_lens(copy.deepcopy(model).half().float(), pipe.preprocess(pipe.read(CAT)))
            np.testing.assert_allclose(reader.forward(seen(pipe, CAT)), expected, atol=1e-4)
        reader.page.locator("[data-value=tour]").click()
        reader.page.wait_for_selector(".tour .option")
