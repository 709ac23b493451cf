from __future__ import annotations

import pickle
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny import change_json, make_checkpoint
from transformers import ViTForImageClassification, ViTImageProcessorPil

import vit_pipeline
from vit_pipeline import Prediction, ViTPipeline, predict
from vit_pipeline.errors import ArgumentError, CheckpointError, ImageError, ModelNameError, OutputError
from vit_pipeline.hf import pipeline
from vit_pipeline.images import read_image

PHOTOS = Path(__file__).parents[2] / "examples"
NAMES = ["cat.png", "coffee.png", "rocket.jpg", "astronaut.png"]


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


@pytest.fixture(scope="module")
def plain() -> tuple[ViTForImageClassification, ViTImageProcessorPil]:
    """What the tutorial writes, on the same files."""
    folder = Path(vit_pipeline.__file__).parent / "demo_model"
    model = ViTForImageClassification.from_pretrained(folder).eval()
    return model, ViTImageProcessorPil.from_pretrained(folder)


def test_every_step_equals_the_tutorials(
    demo: ViTPipeline, plain: tuple[ViTForImageClassification, ViTImageProcessorPil]
) -> None:
    model, processor = plain
    images = [Image.open(PHOTOS / name).convert("RGB") for name in NAMES]
    inputs = processor(images=images, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits

    read = [demo.read(PHOTOS / name) for name in NAMES]
    assert [image.tobytes() for image in read] == [image.tobytes() for image in images]
    pixel_values = demo.preprocess(read)
    assert pixel_values.shape == (4, 3, 32, 32)
    assert torch.equal(pixel_values, inputs.pixel_values)
    ours = demo.forward(pixel_values)
    assert (ours - logits).abs().max() == 0
    for prediction, row in zip(demo.postprocess(ours), logits, strict=True):
        assert prediction.label == model.config.id2label[row.argmax().item()]
        assert prediction.score == pytest.approx(row.softmax(-1).max().item(), abs=1e-7)


def test_the_cat_is_a_cat(demo: ViTPipeline) -> None:
    prediction = demo(PHOTOS / "cat.png", top_k=3)
    assert str(prediction) == "Predicted class: cat"
    assert (prediction.label, prediction.index) == ("cat", 3)
    assert 0.7 < prediction.score < 0.8
    assert [entry.label for entry in prediction.top] == ["cat", "dog", "frog"]
    assert (prediction.source, prediction.model) == (str(PHOTOS / "cat.png"), "demo")
    assert prediction.to_dict()["top"][0] == {"label": "cat", "score": prediction.score, "index": 3}
    with pytest.raises(AttributeError):
        prediction.label = "dog"  # type: ignore[misc]


def test_top_k_of_all_classes_sums_to_one(demo: ViTPipeline) -> None:
    top = demo(PHOTOS / "cat.png", top_k=100).top
    assert len(top) == 10
    assert sum(entry.score for entry in top) == pytest.approx(1, abs=1e-6)
    assert [entry.score for entry in top] == sorted((entry.score for entry in top), reverse=True)


@pytest.mark.slow
def test_lists_keep_their_order_whatever_the_batch_size(demo: ViTPipeline) -> None:
    paths = [PHOTOS / name for name in NAMES] * 2
    alone = [demo(path) for path in paths]
    for batch_size in (1, 3, 8, 100):
        together = demo(paths, batch_size=batch_size)
        assert [p.source for p in together] == [str(path) for path in paths]
        assert [p.label for p in together] == [p.label for p in alone]
        for one, other in zip(together, alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-6)
    assert demo([]) == []
    assert isinstance(demo((paths[0],)), list)


def test_one_bad_image_does_not_lose_the_others(demo: ViTPipeline, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    inputs = [PHOTOS / "cat.png", tmp_path / "bad.jpg", tmp_path / "none.png", PHOTOS / "rocket.jpg"]
    results = demo(inputs, on_error="return", batch_size=2)
    assert [type(result) for result in results] == [Prediction, ImageError, ImageError, Prediction]
    assert (results[0].label, results[3].label) == ("cat", "ship")
    assert "bad.jpg" in str(results[1])
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        demo(inputs)
    assert isinstance(demo(tmp_path / "none.png", on_error="return"), ImageError)


def test_every_kind_of_input_gives_the_same_answer(demo: ViTPipeline) -> None:
    path = PHOTOS / "cat.png"
    image = Image.open(path).convert("RGB")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)  # (3, H, W)
    with path.open("rb") as file:
        inputs = [
            str(path),
            path,
            path.read_bytes(),
            file,
            image,
            array,
            array.astype(np.float32) / 255,
            tensor,
        ]
        scores = [prediction.score for prediction in demo(inputs)]
    assert scores == pytest.approx([demo(path).score] * len(scores), abs=1e-6)


def test_features_are_what_the_head_sees(demo: ViTPipeline) -> None:
    paths = [PHOTOS / name for name in NAMES]
    cls = demo.features(paths, batch_size=3)
    assert cls.shape == (4, 192)
    logits = demo.model.classifier(cls)
    expected = demo.forward(demo.preprocess([demo.read(path) for path in paths]))
    torch.testing.assert_close(logits.detach(), expected, atol=1e-5, rtol=0)
    patches = demo.features(paths, pool="patches")
    assert patches.shape == (4, 64, 192)
    torch.testing.assert_close(demo.features(paths, pool="mean"), patches.mean(1), atol=1e-6, rtol=0)
    assert demo.features(paths[0]).shape == (1, 192)
    cls.requires_grad_().sum().backward()  # fit for training on
    for wrong in ({"pool": "max"}, {"batch_size": 0}):
        with pytest.raises(ArgumentError):
            demo.features(paths, **wrong)
    with pytest.raises(ArgumentError, match="no images"):
        demo.features([])


def test_arguments_that_cannot_be_used(demo: ViTPipeline) -> None:
    image = Image.new("RGB", (8, 8))
    for wrong in ({"top_k": 0}, {"top_k": 2.5}, {"batch_size": -1}, {"on_error": "ignore"}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            demo(image, **wrong)
    with pytest.raises(ArgumentError, match=r"not \(B, 10\)"):
        demo.postprocess(torch.zeros(1, 7))
    with pytest.raises(CheckpointError, match="not finite"):
        demo.postprocess(torch.full((1, 10), float("nan")))


def test_several_labels_use_the_sigmoid(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    change_json(folder / "config.json", problem_type="multi_label_classification")
    pipe = ViTPipeline.from_pretrained(folder)
    logits = torch.tensor([[2.0, -1.0, 0.0, 3.0, -4.0]])
    (prediction,) = pipe.postprocess(logits, top_k=2)
    assert [entry.score for entry in prediction.top] == pytest.approx([0.952574, 0.880797], abs=1e-5)


def test_a_prediction_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    """What the model saw, and bars; names are text, whatever stands in them."""
    folder = make_checkpoint(tmp_path / "tiny")
    change_json(folder / "config.json", id2label={str(i): f"<b>{i}</b>" for i in range(5)})
    pipe = ViTPipeline.from_pretrained(folder)
    for prediction in (pipe(PHOTOS / "cat.png"), *pipe([Image.new("RGB", (40, 20), "red")])):
        page = prediction._repr_html_()
        assert page.count("&lt;b&gt;") == 5
        assert "<b>" not in page
        (url,) = re.findall(r'src="([^"]+)"', page)
        seen = read_image(url)
        assert seen.size == (16, 16)
    assert np.asarray(seen.convert("RGB")).mean((0, 1)) == pytest.approx([255, 0, 0], abs=8)
    assert pickle.loads(pickle.dumps(prediction)) == prediction


def test_the_same_lists_as_transformers(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    images = [Image.open(PHOTOS / name).convert("RGB") for name in NAMES]
    model, processor = (
        ViTForImageClassification.from_pretrained(folder),
        ViTImageProcessorPil.from_pretrained(folder),
    )
    theirs = transformers.pipeline("image-classification", model=model, image_processor=processor)
    by_name = pipeline("image-classification", model=str(folder), device=-1)
    by_object = pipeline("image-classification", model=model, image_processor=processor)

    def again_with(function: str) -> Any:
        return pipeline(model=str(folder), function_to_apply=function, top_k=3, batch_size=2)

    for ours in (by_name, by_object):
        for found, expected in zip(
            [ours(images[0]), *ours(images)], [theirs(images[0]), *theirs(images)], strict=True
        ):
            assert [entry["label"] for entry in found] == [entry["label"] for entry in expected]
            assert [entry["score"] for entry in found] == pytest.approx(
                [entry["score"] for entry in expected], abs=1e-6
            )
    for function in ("softmax", "sigmoid", "none"):
        expected = theirs(images, function_to_apply=function, top_k=3)
        for found in (by_object(images, function_to_apply=function, top_k=3), again_with(function)(images)):
            scores = [[entry["score"] for entry in row] for row in found]
            assert np.array(scores) == pytest.approx(
                np.array([[entry["score"] for entry in row] for row in expected]), abs=1e-6
            )
    assert len(by_name(images[0], top_k=2)) == 2
    assert len(by_name(images[0], top_k=None)) == 5
    assert (by_name.task, by_object.model) == ("image-classification", model)
    with pytest.raises(ArgumentError, match="text-generation"):
        pipeline("text-generation")
    with pytest.raises(ArgumentError, match="function_to_apply is 'bogus'"):
        by_name(images[0], function_to_apply="bogus")
    with pytest.raises(ArgumentError, match="image_processor"):
        pipeline(model=str(folder), image_processor=processor)
    with pytest.raises(ArgumentError, match="processor is None"):
        pipeline(model=model)
    with pytest.raises(TypeError, match="topk"):
        by_name(images[0], topk=1)


def test_options_that_do_not_exist(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    for wrong, meant in (
        ("devise", "device"),
        ("dtpye", "dtype"),
        ("modle", "model"),
        ("cash_dir", "cache_dir"),
    ):
        with pytest.raises(TypeError, match=f"{wrong}.*did you mean '{meant}'"):
            predict(PHOTOS / "cat.png", folder, **{wrong: "x"})
    with pytest.raises(ArgumentError, match="from_pretrained takes a name"):
        ViTPipeline("demo", None)


def test_a_saved_pipeline_is_the_same_one(demo: ViTPipeline, tmp_path: Path) -> None:
    demo.save_pretrained(tmp_path / "mine")
    again = ViTPipeline.from_pretrained(tmp_path / "mine")
    assert again.labels == demo.labels
    pixel_values = demo.preprocess(demo.read(PHOTOS / "cat.png"))
    assert torch.equal(again.forward(pixel_values), demo.forward(pixel_values))
    assert ViTForImageClassification.from_pretrained(tmp_path / "mine").config.id2label[3] == "cat"
    with pytest.raises(OutputError, match="not empty"):
        demo.save_pretrained(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        demo.save_pretrained(tmp_path / "file" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


class Dataset:
    """As torch has it: items by number, and nothing else."""

    def __init__(self, *items: object) -> None:
        self.items = items

    def __getitem__(self, index: int) -> object:
        return self.items[index]


class Column(list[object]):
    """As a data set has it: many images, although it has a shape."""

    shape = (2, 1)


def test_iterables_of_every_kind(demo: ViTPipeline) -> None:
    path = PHOTOS / "cat.png"
    row = {"bytes": path.read_bytes(), "path": None}
    for many in (
        iter([path, row]),
        Dataset(path, row),
        (one for one in [path, row]),
        Column([path, row]),
        np.array([str(path)] * 2),
    ):
        assert [prediction.label for prediction in demo(many)] == ["cat", "cat"]
    assert demo(row).label == demo({"bytes": None, "path": str(path)}).label == "cat"
    rows = [{"image": Image.open(path), "label": 3}, {"label": 3, "img": {"bytes": b"", "path": str(path)}}]
    rows.append({"image": np.asarray(Image.open(path).convert("RGB"))})
    assert [prediction.label for prediction in demo(rows)] == ["cat"] * 3
    assert demo(rows[1]).source == str(path)
    assert demo(path, top_k=np.int64(2), batch_size=np.int32(1)).top[1].label == "dog"


def test_predict_keeps_the_model_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from vit_pipeline import pipeline

    pipeline._kept.cache_clear()
    image = PHOTOS / "cat.png"
    answers: list[Prediction] = []
    threads = [
        threading.Thread(target=lambda: answers.append(predict(image, model="demo"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(answer) for answer in answers] == ["Predicted class: cat"] * 4
    assert pipeline._kept.cache_info().misses == 1
    assert [p.label for p in predict([image, image], model="demo", top_k=1)] == ["cat", "cat"]
    with pytest.raises(ModelNameError):
        predict(image, model="no-such-model")


def test_public_names_are_all_there() -> None:
    assert set(vit_pipeline.__all__) <= set(dir(vit_pipeline))
    for name in vit_pipeline.__all__:
        assert getattr(vit_pipeline, name).__module__.startswith("vit_pipeline.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vit_pipeline.nothing  # noqa: B018
