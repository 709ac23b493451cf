"""Explanations against independent computations, and what they leave behind: nothing."""

from __future__ import annotations

import copy
import json
import os
import re
import threading
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import change_json, make_checkpoint
from transformers import ViTForImageClassification, ViTModel

from vit_pipeline import ViTPipeline
from vit_pipeline.errors import ArgumentError, CheckpointError
from vit_pipeline.explain import METHODS, Explanation, evaluate, explain
from vit_pipeline.explain.faithfulness import saco

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CAT = ROOT / "examples" / "cat.png"
CLASSIFIER_METHODS = METHODS[:3]


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


@pytest.fixture(scope="module")
def cat(demo: ViTPipeline) -> Explanation:
    return demo.explain(CAT)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., ViTPipeline]:
    def make(dtype: str = "float32", height: int = 16, width: int = 16, **sizes: Any) -> ViTPipeline:
        folder = make_checkpoint(tmp_path / "tiny", image_size=[height, width], **sizes)
        change_json(folder / "preprocessor_config.json", size={"height": height, "width": width})
        return ViTPipeline.from_pretrained(folder, device="cpu", dtype=dtype)

    return make


@pytest.fixture
def wide(tiny: Callable[..., ViTPipeline]) -> ViTPipeline:
    """A grid of 4 × 6 patches of 8 × 4 pixels: nothing is square."""
    return tiny(height=32, width=24, patch_size=[8, 4])


def eager(pipe: ViTPipeline) -> Any:
    model = copy.deepcopy(pipe.model)
    model.set_attn_implementation("eager")
    return model


# What happens inside


def test_attentions_are_those_of_an_eager_model(demo: ViTPipeline, cat: Explanation) -> None:
    with torch.no_grad():
        expected = eager(demo)(cat.pixel_values, output_attentions=True).attentions
    assert np.array_equal(cat.attentions, torch.cat(expected).numpy())
    assert cat.attentions.shape == (6, 3, 65, 65)
    np.testing.assert_allclose(cat.attentions.sum(-1), 1, atol=1e-5)


def test_the_attention_of_a_layer_and_head(cat: Explanation) -> None:
    assert np.array_equal(cat.attention(), cat.attentions[5].mean(0)[0, 1:].reshape(8, 8))
    assert np.array_equal(cat.attention(2, 1), cat.attentions[2, 1, 0, 1:].reshape(8, 8))
    assert np.array_equal(cat.heatmap("attention", layer=2, head=-1), cat.attention(2, 2))
    for wrong in ({"layer": 6}, {"layer": -7}, {"head": 3}):
        with pytest.raises(ArgumentError, match="there is no"):
            cat.attention(**wrong)
    with pytest.raises(ArgumentError, match="attention"):
        cat.heatmap("rollout", layer=1)
    with pytest.raises(ArgumentError, match="gradient-attention, occlusion"):
        cat.heatmap("grad-cam")


def test_rollout_is_the_product_over_the_layers(cat: Explanation) -> None:
    expected = np.eye(65)
    for layer in cat.attentions.astype(np.float64).mean(1):
        mixed = (layer + np.eye(65)) / 2
        expected = mixed / mixed.sum(-1, keepdims=True) @ expected
    np.testing.assert_allclose(cat.rollout(), expected[0, 1:].reshape(8, 8), atol=1e-6)


def test_attention_distance_is_in_pixels(wide: ViTPipeline) -> None:
    e = wide.explain(CAT)
    expected = np.zeros((2, 3))
    for (layer, head), _ in np.ndenumerate(expected):
        weights = e.attentions[layer, head, 1:, 1:]
        for i in range(24):
            there = [np.hypot(8 * (i // 6 - j // 6), 4 * (i % 6 - j % 6)) for j in range(24)]
            expected[layer, head] += weights[i] @ there / weights[i].sum() / 24
    np.testing.assert_allclose(e.attention_distance(), expected, rtol=1e-5)


def test_the_lens_ends_with_the_prediction(demo: ViTPipeline, cat: Explanation) -> None:
    assert cat.lens[-1] == cat.prediction == demo(CAT)
    assert len(cat.lens) == 7
    vit = demo.model.vit
    with torch.inference_mode():
        state = vit.embeddings(cat.pixel_values)
        for at in cat.lens[:-1]:
            expected = demo.model.classifier(vit.layernorm(state))[0, 0].softmax(-1)
            assert at.index == int(expected.argmax())
            assert at.score == pytest.approx(float(expected.max()), abs=1e-6)
            state = vit.layers[cat.lens.index(at)](state, None)


# Where the evidence lies


def test_gradient_attention_is_the_papers_update(demo: ViTPipeline, cat: Explanation) -> None:
    output = eager(demo)(cat.pixel_values, output_attentions=True)
    for attention in output.attentions:
        attention.retain_grad()
    output.logits[0, 3].backward()
    relevance = torch.eye(65)
    for attention in output.attentions:
        relevance = relevance + (attention * attention.grad).clamp(min=0).mean(1)[0] @ relevance
    np.testing.assert_allclose(cat.heatmap().ravel(), relevance[0, 1:].detach(), atol=1e-6)


def gray(pipe: ViTPipeline, e: Explanation) -> torch.Tensor:
    return pipe.preprocess(Image.new("RGB", e.image.size, (128, 128, 128)))


@pytest.mark.parametrize("kind", ["demo", "wide"])
def test_occlusion_grays_patch_by_patch(kind: str, request: pytest.FixtureRequest) -> None:
    pipe = request.getfixturevalue(kind)
    e = pipe.explain(CAT)
    (height, width), base = e.patch, gray(pipe, e)
    expected = np.zeros(e.grid)
    for row, col in np.ndindex(*e.grid):
        hidden = e.pixel_values.clone()
        box = (..., slice(row * height, (row + 1) * height), slice(col * width, (col + 1) * width))
        hidden[box] = base[box]
        logits = pipe.forward(torch.cat([e.pixel_values, hidden]))[:, e.target.index]
        expected[row, col] = logits[0] - logits[1]
    np.testing.assert_allclose(e.heatmap("occlusion"), expected, atol=1e-5)


def test_integrated_gradients_follow_the_path(demo: ViTPipeline, cat: Explanation) -> None:
    base, image = gray(demo, cat), cat.pixel_values
    nodes, weights = np.polynomial.legendre.leggauss(32)
    found = torch.zeros_like(image)
    for node, weight in zip(nodes, weights, strict=True):
        point = (base + (node + 1) / 2 * (image - base)).float().requires_grad_()
        (gradient,) = torch.autograd.grad(demo.model(point).logits[0, 3], point)
        found += weight / 2 * gradient * (image - base)
    expected = found.sum(1).reshape(8, 4, 8, 4).sum((1, 3))
    np.testing.assert_allclose(cat.heatmap("integrated-gradients"), expected, atol=1e-5)


def test_integrated_gradients_are_complete(demo: ViTPipeline, cat: Explanation) -> None:
    logits = demo.forward(torch.cat([cat.pixel_values, gray(demo, cat)]))[:, 3]
    total = cat.heatmap("integrated-gradients", steps=256).sum()
    assert total == pytest.approx(float(logits[0] - logits[1]), rel=0.01)


@pytest.mark.parametrize(
    ("importance", "drop", "expected"),
    [
        ([3, 2, 1], [0.3, 0.2, 0.1], 1),
        ([3, 2, 1], [0.1, 0.2, 0.3], -1),
        ([3, 2, 1], [0.3, 0.1, 0.2], (1 + 2 - 1) / 4),  # pairs 3-2, 3-1 agree, 2-1 does not
        ([5, 1, 0], [0.2, 0.2, 0.3], (4 - 5 - 1) / 10),  # equal drops agree
        ([1, 1, 1], [0.3, 0.2, 0.1], 0),
    ],
)
def test_saco(importance: list[float], drop: list[float], expected: float) -> None:
    assert saco(np.array(importance, float), np.array(drop)) == pytest.approx(expected)


def test_faithfulness_grays_the_highest_first(wide: ViTPipeline) -> None:
    e = wide.explain(CAT)
    f = e.faithfulness("occlusion")
    base, image = gray(wide, e), e.pixel_values
    order = sorted(range(24), key=lambda patch: -e.heatmap("occlusion").ravel()[patch])

    def probability(patches: list[int], inside: torch.Tensor, outside: torch.Tensor) -> float:
        made = outside.clone()
        for patch in patches:
            box = (
                ...,
                *(
                    slice(at * size, (at + 1) * size)
                    for at, size in zip(divmod(patch, 6), (8, 4), strict=True)
                ),
            )
            made[box] = inside[box]
        return float(wide.forward(made).softmax(-1)[0, e.target.index])

    counts = [round(step * 24 / 16) for step in range(17)]
    np.testing.assert_allclose(f.deletion, [probability(order[:n], base, image) for n in counts], atol=1e-5)
    np.testing.assert_allclose(f.insertion, [probability(order[:n], image, base) for n in counts], atol=1e-5)
    assert f.deletion_auc == pytest.approx(float(np.trapezoid(f.deletion, dx=1 / 16)), abs=1e-6)
    assert f.gain == pytest.approx(float(np.trapezoid(f.insertion - f.deletion, dx=1 / 16)), abs=1e-6)
    groups = [order[start : start + 3] for start in range(0, 24, 3)]  # 8 of equal size
    importance = np.array([e.heatmap("occlusion").ravel()[group].mean() for group in groups])
    whole = probability([], base, image)
    cost = np.array([whole - probability(group, base, image) for group in groups])
    assert f.saco == pytest.approx(saco(importance, cost), abs=1e-3)
    assert (f.random, f.centre) == (e.yardstick("random"), e.yardstick("centre"))
    again = wide.explain(CAT).yardstick("random")
    assert np.array_equal(again.deletion, f.random.deletion)


def test_the_centre_is_removed_first_by_the_centre(demo: ViTPipeline, cat: Explanation) -> None:
    made, base = cat.pixel_values.clone(), gray(demo, cat)
    made[..., 12:20, 12:20] = base[..., 12:20, 12:20]  # 4 of 64 patches: a sixteenth
    expected = float(demo.forward(made).softmax(-1)[0, 3])
    assert cat.yardstick("centre").deletion[1] == pytest.approx(expected, abs=1e-5)


def test_the_evidence_in_words(demo: ViTPipeline) -> None:
    from vit_pipeline.explain.figure import evidence

    scores = np.full((4, 6), -1.0, np.float32)
    assert evidence(scores) == "No patch speaks for it."
    scores[3, 5], scores[3, 4], scores[0, 0] = 5, 3, 1
    few = "Half of the evidence is in 1 of 24 patches, most of all at the lower right"
    assert evidence(scores) == f"{few}; the strongest: row 4 column 6, row 4 column 5, row 1 column 1."


# Any model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_method_on_a_grid_that_is_not_square(tiny: Callable[..., ViTPipeline], dtype: str) -> None:
    e = tiny(dtype, width=24).explain(CAT)
    for method in METHODS:
        scores = e.heatmap(method)
        assert (scores.shape, scores.dtype) == ((4, 6), np.float32)
        assert np.isfinite(scores).all()
        assert -1 <= e.faithfulness(method).saco <= 1
    assert e.image.size == (24, 16)
    assert e.lens[-1] == e.prediction


def test_a_timm_checkpoint() -> None:
    pipe = ViTPipeline.from_pretrained(ROOT / "tests" / "golden" / "timm_vit_small_mini", device="cpu")
    e = pipe.explain(CAT)
    assert e.heatmap().shape == e.grid == (14, 14)
    assert e.lens[-1] == e.prediction


def test_a_backbone_has_what_needs_no_class(demo: ViTPipeline, tmp_path: Path) -> None:
    backbone = ViTModel(demo.model.config, add_pooling_layer=False).eval()
    backbone.load_state_dict(demo.model.vit.state_dict())
    e = ViTPipeline(backbone, demo.processor).explain(CAT)
    whole = demo.explain(CAT)
    assert e.prediction is None
    assert e.target is None
    assert np.array_equal(e.attentions, whole.attentions)
    assert np.array_equal(e.heatmap("rollout"), whole.rollout())
    assert e.attention_distance().shape == (6, 3)
    asks: list[Callable[[], Any]] = [lambda: e.lens, lambda: e.faithfulness("rollout")]
    for ask in [*asks, *(lambda m=m: e.heatmap(m) for m in CLASSIFIER_METHODS)]:
        with pytest.raises(CheckpointError, match="needs a classifier"):
            ask()
    for suffix in ("png", "html", "json", "npz"):
        e.save(tmp_path / f"e.{suffix}", "rollout", all_heads=True)
    assert "No classifier" in (tmp_path / "e.html").read_text("utf-8")


def test_the_class_to_explain(demo: ViTPipeline, cat: Explanation) -> None:
    dog = demo.explain(CAT, "dog")
    assert (dog.target.label, dog.target.index, dog.prediction.label) == ("dog", 5, "cat")
    assert dog.target.score == pytest.approx(cat.prediction.top[1].score)
    assert np.array_equal(dog.heatmap(), demo.explain(CAT, 5).heatmap())
    assert demo.explain(CAT, "5").target == dog.target
    assert not np.allclose(dog.heatmap("occlusion"), cat.heatmap("occlusion"))
    for wrong in ("dogg", 10, -1, "10", ""):
        with pytest.raises(ArgumentError, match="no class is called"):
            demo.explain(CAT, wrong)
    with pytest.raises(ArgumentError, match="such as dog"):
        demo.explain(CAT, "dogg")


def test_a_class_that_shares_its_name(tiny: Callable[..., ViTPipeline]) -> None:
    pipe = tiny()
    pipe.labels = ("crane", "tabby, tabby cat", "crane", "3", "thing")
    assert pipe.explain(CAT, "tabby cat").target.index == 1
    assert pipe.explain(CAT, "3").target.index == 3
    with pytest.raises(ArgumentError, match=r"2 classes are called 'crane'.* such as 0, 2"):
        pipe.explain(CAT, "crane")


# What it leaves behind


def state(model: Any) -> Any:
    modules = [
        (name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)))
        for name, m in model.named_modules()
    ]
    parameters = [(n, p.requires_grad, p.grad is None, p.data_ptr()) for n, p in model.named_parameters()]
    return modules, parameters, model.config.to_dict(), model.config._attn_implementation


def everything(e: Explanation) -> None:
    for method in METHODS:
        e.heatmap(method)
    assert e.lens
    e.faithfulness()


@pytest.mark.parametrize("raised", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_as_before(tiny: Callable[..., ViTPipeline], raised: Any) -> None:
    pipe = tiny()
    e = pipe.explain(CAT)

    def stop(*_: Any) -> None:
        if raised is not None:
            raise raised

    pipe.model.vit.layernorm.register_forward_hook(stop)  # goes off inside whatever runs the model
    before = state(pipe.model)
    if raised is None:
        everything(e)
    asks: list[Callable[[], Any]] = [lambda: e.attentions, lambda: e.lens, lambda: e.faithfulness()]
    for ask in [*asks, *(lambda m=m: e.heatmap(m) for m in METHODS)] if raised else []:
        with pytest.raises(raised):
            ask()
    assert state(pipe.model) == before


def test_also_where_gradients_are_off(demo: ViTPipeline, cat: Explanation) -> None:
    with torch.inference_mode():
        inside = demo.explain(CAT)
        for method in METHODS:
            assert np.array_equal(inside.heatmap(method), cat.heatmap(method))


def test_it_is_computed_once_and_kept(cat: Explanation) -> None:
    assert cat.heatmap() is cat.heatmap()
    assert cat.attentions is cat.attentions
    with pytest.raises(ValueError, match="read-only"):
        cat.heatmap()[0, 0] = 1


def test_others_predict_meanwhile(demo: ViTPipeline) -> None:
    images = [demo.read(path) for path in sorted(CAT.parent.glob("*.png"))]
    expected = [demo.forward(demo.preprocess(image)) for image in images]
    maps = {number: demo.explain(image).heatmap() for number, image in enumerate(images[:2])}
    done, wrong = threading.Event(), []

    def explaining(number: int) -> None:
        for _ in range(6):
            e = demo.explain(images[number])
            if (
                not np.array_equal(e.heatmap(), maps[number])
                or e.lens[-1] != e.prediction
                or not e.attentions.any()
            ):
                wrong.append(number)
        done.set()

    threads = [threading.Thread(target=explaining, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for image, logits in zip(images, expected, strict=True):
            assert torch.equal(demo.forward(demo.preprocess(image)), logits)
    assert done.is_set()
    assert not wrong


# What is shown


def test_files(cat: Explanation, tmp_path: Path) -> None:
    cat.save(tmp_path / "cat.png", all_heads=True, lens=True, faithfulness=True)
    cat.save(tmp_path / "small.png")
    with Image.open(tmp_path / "cat.png") as full, Image.open(tmp_path / "small.png") as small:
        assert full.width == small.width >= 1200
        assert full.height > 2 * small.height
    cat.save(tmp_path / "cat.json", "attention", layer=1, head=0)
    record = json.loads((tmp_path / "cat.json").read_text("utf-8"))
    assert (record["method"], record["layer"], record["head"]) == ("attention", 1, 0)
    assert record["prediction"] == json.loads(json.dumps(cat.prediction.to_dict()))
    assert record["target"] == cat.target.to_dict()
    np.testing.assert_allclose(record["heatmap"], cat.attention(1, 0))
    assert [at["label"] for at in record["lens"]] == [at.label for at in cat.lens]
    assert record["faithfulness"]["saco"] == cat.faithfulness("attention", layer=1, head=0).saco
    assert len(record["faithfulness"]["centre"]["deletion"]) == 17
    assert any("Weak evidence" in line for line in record["notes"])
    cat.save(tmp_path / "cat.npz")
    with np.load(tmp_path / "cat.npz") as arrays:
        assert np.array_equal(arrays["heatmap"], cat.heatmap())
        assert np.array_equal(arrays["attentions"], cat.attentions)
        assert np.array_equal(arrays["image"], np.asarray(cat.image))
    with pytest.raises(ArgumentError, match=r"cat\.pdf: the name must end in \.png"):
        cat.save(tmp_path / "cat.pdf")
    assert not (tmp_path / "cat.pdf").exists()


EVIL = "<script>alert(1)</script> $\\frac$ 猫 & more"


@pytest.mark.usefixtures("chinese_font")
def test_labels_of_other_people(tiny: Callable[..., ViTPipeline], tmp_path: Path) -> None:
    pipe = tiny()
    pipe.labels = (EVIL,) * 5
    e = explain(pipe, pipe.preprocess(pipe.read(CAT)), EVIL, 2)
    e.save(tmp_path / "e.png", lens=True, faithfulness=True)
    e.save(tmp_path / "e.html", "rollout")
    page = (tmp_path / "e.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $\\frac$ 猫 &amp; more" in page
    assert "Weak evidence" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "url(" not in page
    assert page.count("data:image/png;base64,") == 3 + 2 * 3  # the image twice, the map, a map a head


def test_the_figure_says_how_far_to_trust_it(cat: Explanation) -> None:
    figure = cat.figure("attention")
    texts = " ".join(text.get_text() for part in figure.subfigs for text in part.texts)
    assert "cat  75.3%" in texts
    f = cat.faithfulness("attention")
    assert f"map {f.gain:+z.2f}".replace("-", "−") in texts
    assert f"centre {f.centre.gain:+z.2f}".replace("-", "−") in texts
    assert ("do not rely on it" in texts) == (f.gain <= max(f.centre.gain, f.random.gain))
    assert "Weak evidence" in texts
    assert "Weak evidence" not in " ".join(text.get_text() for text in cat.figure().subfigs[0].texts)
    assert figure._repr_png_().startswith(b"\x89PNG")


# Which method to trust


def test_methods_are_measured_image_by_image(demo: ViTPipeline) -> None:
    explained = [demo.explain(CAT.parent / name) for name in ("cat.png", "boat.jpg", "parrots.jpg")]
    rows = {row.method: row for row in evaluate(iter(explained), ["gradient-attention", "rollout"])}
    assert set(rows) == {"gradient-attention", "rollout", "centre", "random"}
    gains = np.array([e.faithfulness().gain for e in explained])
    beyond = gains - [e.yardstick("centre").gain for e in explained]
    row = rows["gradient-attention"]
    assert row.images == 3
    wide = 4.302653  # Student's t, 2 degrees of freedom, 97.5 %
    assert row.gain == pytest.approx((gains.mean(), wide * gains.std(ddof=1) / 3**0.5))
    assert row.over_centre == pytest.approx((beyond.mean(), wide * beyond.std(ddof=1) / 3**0.5))
    assert rows["centre"].over_centre == (0, 0)
    assert rows["random"].beats_random == 0
    with pytest.raises(ArgumentError, match="1 images"):
        evaluate(explained[:1], ["rollout"])


def test_without_scipy_it_is_one_line(demo: ViTPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "scipy" else find_spec(name))
    with pytest.raises(ArgumentError, match=r"needs scipy.* type: pip install 'scipy"):
        evaluate([demo.explain(CAT)] * 2, ["rollout"])


def spearman(one: Any, other: Any) -> float:
    ranks = [np.argsort(np.argsort(scores.ravel())) for scores in (one, other)]
    return float(np.corrcoef(ranks)[0, 1])


@pytest.mark.long
def test_maps_depend_on_the_weights(demo: ViTPipeline) -> None:
    """Adebayo et al. 2018: what a model with random weights also shows is not about the model."""
    torch.manual_seed(0)
    model = ViTForImageClassification(demo.model.config)
    random = ViTPipeline(model, demo.processor)
    photos = sorted(path for path in CAT.parent.glob("*.*g") if path.suffix in (".png", ".jpg"))
    for method in CLASSIFIER_METHODS:
        alike = [
            spearman(e.heatmap(method), random.explain(path, e.target.index).heatmap(method))
            for path, e in ((path, demo.explain(path)) for path in photos)
        ]
        assert abs(np.mean(alike)) < 0.2, method


def test_three_methods_beat_the_centre(demo: ViTPipeline) -> None:
    """VIT_PIPELINE_CIFAR10: a folder with ``test/<class>/<image>``, a JPEG copy of CIFAR-10."""
    folder = os.environ.get("VIT_PIPELINE_CIFAR10")
    if not folder:
        pytest.skip("VIT_PIPELINE_CIFAR10 does not say where CIFAR-10's images are")
    images = [path for each in sorted(Path(folder, "test").iterdir()) for path in sorted(each.iterdir())[:28]]
    right = (e for path in images if (e := demo.explain(path)).prediction.label == path.parent.name)
    rows = evaluate((e for e, _ in zip(right, range(200), strict=False)), CLASSIFIER_METHODS)
    assert rows[0].images == 200
    for row in rows:
        if row.method in CLASSIFIER_METHODS:
            mean, half = row.over_centre
            assert mean - half > 0, row
