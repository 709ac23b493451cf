"""What the page of explore is made of; what it does in a browser is in tests/browser."""

from __future__ import annotations

import base64
import json
import re
import tomllib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run
from PIL import Image
from tiny import change_json, make_checkpoint
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, ViTModel

from vit_pipeline import ArgumentError, ImageError, OutputError, ViTPipeline
from vit_pipeline.explorer import HERE, SCRIPTS, WORKER, explore
from vit_pipeline.explorer.record import pack, quantise, record

CAT = Path(__file__).parents[2] / "examples" / "cat.png"
TEXT = tomllib.loads((HERE / "text.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


def unpack(packed: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(packed["type"])
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["bytes"])), np.uint8)
    joined = planes.reshape(dtype.itemsize, -1).T.tobytes()
    return np.frombuffer(joined, dtype).reshape(packed["shape"])


def data_of(page: str) -> dict[str, Any]:
    """The data inside a page, as a browser finds them: up to the next ``</script``."""
    inside = page.partition('<script type="application/json" id="data">')[2].partition("</script")[0]
    return json.loads(inside)  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_packed_and_unpacked(dtype: str) -> None:
    array = np.random.default_rng(0).normal(100, 30, (3, 5, 7)).astype(dtype)
    assert np.array_equal(unpack(pack(array)), array)


def test_quantised_attention_is_within_half_a_step() -> None:
    rows = torch.randn(2, 3, 9, 9).mul(5).softmax(-1).numpy()
    levels, unit = quantise(rows)
    assert levels.dtype == np.uint8
    assert (levels.max(-1) == 255).all()
    off = np.abs(levels * unit[..., None] - rows)
    assert (off <= unit[..., None] / 2 + 1e-8).all()
    assert np.isfinite(quantise(np.zeros((1, 4), np.float32))[1]).all()


def test_live_data_are_the_weights(demo: ViTPipeline) -> None:
    page = explore(CAT, demo)
    assert (page.source, page.model, page.live) == ("cat.png", "demo", True)
    assert len(page.page.encode()) < 8e6
    data = data_of(page.page)
    flat, at = unpack(data["weights"]), 0
    for name, shape in data["tensors"]:
        expected = demo.model.state_dict()[name].numpy()
        assert list(expected.shape) == shape
        assert np.array_equal(flat[at : at + expected.size], expected.ravel().astype(np.float16)), name
        at += expected.size
    assert at == len(flat) == data["model"]["parameters"]
    image = demo.explain(CAT).image
    assert np.array_equal(unpack(data["image"]), np.asarray(image))
    pixels = data["model"]["pixels"]
    again = np.asarray(image) * np.array(pixels["scale"]) + np.array(pixels["shift"])
    np.testing.assert_allclose(again.transpose(2, 0, 1), demo.preprocess(demo.read(CAT))[0], atol=1e-6)
    assert 0 < data["rounding"] < 0.01


def test_recorded_data_are_what_happened(demo: ViTPipeline) -> None:
    data = data_of(explore(CAT, demo, live=False).page)
    e = demo.explain(CAT)
    unit = unpack(data["units"])
    off = np.abs(unpack(data["attentions"]) * unit[..., None] - e.attentions)
    assert (off <= unit[..., None] / 2 + 1e-8).all()
    scores = unpack(data["scores"])
    assert [int(row.argmax()) for row in scores] == [at.index for at in e.lens]
    np.testing.assert_allclose(scores.max(-1), [at.score for at in e.lens], atol=1e-6)
    with torch.no_grad():
        states = demo.model(e.pixel_values, output_hidden_states=True).hidden_states
        step = demo.model.vit.layers[2]
        attended = step.attention(step.layernorm_before(states[2]))[0]
    norms = unpack(data["norms"])  # (5, L, N)
    np.testing.assert_allclose(norms[0, 2], states[2][0].norm(dim=-1), rtol=1e-5)
    np.testing.assert_allclose(norms[1, 2], attended.reshape(65, 192).norm(dim=-1), rtol=1e-4)
    np.testing.assert_allclose(norms[4, 2], states[3][0].norm(dim=-1), rtol=1e-5)
    np.testing.assert_allclose(unpack(data["cls"]), torch.cat(states)[:, 0], atol=1e-5)
    np.testing.assert_allclose(unpack(data["placed"]), states[0][0], atol=5e-3)
    assert "weights" not in data


def test_position_embeddings_and_filters(demo: ViTPipeline) -> None:
    data = data_of(explore(CAT, demo, live=False).page)
    found = unpack(data["positions"]).astype(np.float32)
    table = demo.model.vit.embeddings.position_embeddings[0, 1:].detach()
    expected = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=-1)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.fill_diagonal(found, -1)
    best, place = found.argmax(-1), np.arange(64)
    assert (best == place // 8 * 8 + 7 - place % 8).sum() == 49  # the mirrored column
    assert unpack(data["filters"]).shape == (28, 4, 4, 3)


def small(**changes: Any) -> ViTPipeline:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = ViTConfig(**{**sizes, "image_size": 16, "patch_size": 4, "num_labels": 3, **changes})
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    return ViTPipeline(ViTForImageClassification(config), processor)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"hidden_act": "gelu_pytorch_tanh"}, "activation"),
        ({"problem_type": "multi_label_classification"}, "scores"),
        ({"num_labels": 1}, "scores"),
        ({"hidden_size": 960, "num_attention_heads": 4, "intermediate_size": 1200}, "size"),
    ],
)
def test_what_a_page_cannot_compute_is_recorded(changes: dict[str, Any], reason: str | None) -> None:
    pipe = small(**changes)
    data = data_of(explore(CAT, pipe).page)
    assert (data["live"], data["reason"]) == (reason is None, reason)
    if reason:
        assert f"reason_{reason}" in TEXT
        with pytest.raises(ArgumentError, match="leave live out"):
            explore(CAT, pipe, live=True)


def test_other_reasons() -> None:
    pipe = small()
    with torch.no_grad():
        pipe.model.classifier.weight[0, 0] = 1e6
    assert data_of(explore(CAT, pipe).page)["reason"] == "half"

    class Strange(ViTImageProcessorPil):  # type: ignore[misc]
        def normalize(self, image: Any, *given: Any, **options: Any) -> Any:
            return np.sqrt(np.abs(image))

    strange = ViTPipeline(small().model, Strange(size={"height": 16, "width": 16}))
    data = data_of(explore(CAT, strange).page)
    assert (data["reason"], data["model"]["pixels"], data["model"]["resize"]) == ("pixels", None, None)
    backbone = ViTModel(small().model.config, add_pooling_layer=False)
    data = data_of(explore(CAT, ViTPipeline(backbone, small().processor)).page)
    assert (data["reason"], data["model"]["labels"], "lens" in data) == ("head", [], False)


@pytest.mark.slow
def test_a_vit_base_is_recorded_in_less_than_10_mb() -> None:
    """One layer of twelve is measured: attention takes the room, and chance weights compress worst of all."""
    config = ViTConfig(num_hidden_layers=1, num_labels=1000)
    pipe = ViTPipeline(ViTForImageClassification(config), ViTImageProcessorPil())
    data = record(pipe, pipe.preprocess(pipe.read(CAT)), "cat", False)
    assert data["model"]["parameters"] > 8e6
    each = {name: len(json.dumps(value)) for name, value in data.items()}
    assert sum(each.values()) + 11 * (each["attentions"] + each["units"] + each["norms"]) < 9.5e6


def test_nothing_in_the_data_ends_its_script(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    names = ["</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028", "'\"&lt;"]
    change_json(folder / "config.json", id2label=dict(enumerate(names)))
    image = tmp_path / "<b>{{ 1 + 1 }}&.png"
    Image.open(CAT).save(image)
    page = explore(image, ViTPipeline.from_pretrained(folder, device="cpu")).page
    assert data_of(page)["model"]["labels"] == names
    assert data_of(page)["source"] == image.name
    assert re.findall(r"<title>(.*?)</title>", page) == [f"&lt;b&gt;{{{{ 1 + 1 }}}}&amp;.png · {folder}"]
    ends = page.count("</script")
    assert ends == page.count("<script") == 4


def test_saved_and_shown_in_a_notebook(demo: ViTPipeline, tmp_path: Path) -> None:
    page = explore(CAT, demo, live=False, lang="zh")
    page.save(tmp_path / "cat.html")
    assert (tmp_path / "cat.html").read_text("utf-8") == page.page
    assert '<html lang="zh" data-lang="zh">' in page.page
    frame = page._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert "<script" not in frame
    with pytest.raises(ArgumentError):
        page.save(tmp_path / "cat.png")
    with pytest.raises(OutputError):
        page.save(tmp_path / "missing" / "cat.html")
    with pytest.raises(ImageError):
        explore("missing.png", demo)
    assert len(repr(page)) < 200


def test_the_words(demo: ViTPipeline) -> None:
    """Both languages say everything, with the same parts, and every name that the scripts use is there."""
    for key, sentences in TEXT.items():
        english, chinese = sentences
        for parts in (r"\{\w+\}", r"\[\w+:", r"\*\*"):
            assert sorted(re.findall(parts, english)) == sorted(re.findall(parts, chinese)), key
        assert not re.search(r"[\u4e00-\u9fff]", english), key
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]", chinese), key  # full-width punctuation
    scripts = "".join((HERE / "js" / f"{name}.js").read_text("utf-8") for name in (*WORKER, *SCRIPTS))
    used = set(re.findall(r'\b(?:t|rich|para)\(\s*"(\w+)"', scripts))
    assert used <= TEXT.keys()
    stations = set(re.findall(r'^\s+key: "(\w+)"', scripts, re.MULTILINE))
    assert len(stations) == 13
    families = "switch_|hint_|node_|stage_|block_|about_|column_|reason_|tour_"
    unused = {key for key in TEXT if f'"{key}"' not in scripts and not re.match(families, key)}
    assert unused == set()
    assert {path.stem for path in (HERE / "js").iterdir()} == {*WORKER, *SCRIPTS}


@pytest.mark.slow
def test_the_command(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cat.html"
    code, out, err = run("explore", CAT, "-o", path, "--model", "demo", "--device", "cpu", "--lang", "zh")
    assert (code, out) == (0, "")
    assert f"{path}: cat.png, " in err
    assert data_of(path.read_text("utf-8"))["live"]
    quiet = ("--model", "demo", "--device", "cpu", "--quiet")
    assert run("explore", CAT, "-o", path, "--recorded", *quiet) == (0, "", "")
    assert not data_of(path.read_text("utf-8"))["live"]
    path.unlink()
    for images, said in (((CAT, CAT), "one image"), (("missing.png",), "no such file")):
        code, _, err = run("explore", *images, "-o", path, *quiet)
        assert code
        assert said in err
    assert not path.exists()
    assert run("explore", CAT, "-o", tmp_path / "cat.png", *quiet)[0] == 2
