"""``finetune``, its data checks and its command, on scikit-learn's digits and tiny or embedded models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PATIENCE
from PIL import Image
from safetensors.torch import load_file
from tiny import make_checkpoint
from transformers import ViTForImageClassification, pipeline

from vit_pipeline import ViTPipeline, finetune
from vit_pipeline.convert import convert
from vit_pipeline.training import probe

datasets = pytest.importorskip("sklearn.datasets")
pytest.importorskip("scipy")
FULL: dict[str, Any] = {"method": "full", "epochs": 3, "batch_size": 8, "learning_rate": 3e-3}
COMMAND = (sys.executable, "-m", "vit_pipeline", "finetune")


def save_digits(top: Path, each: int, classes: int = 3, *, first: int = 0) -> Path:
    """``each`` images of each digit as ``top/<digit>/<number>.png``, from the ``first`` on."""
    images, truth = datasets.load_digits(return_X_y=True)
    for digit in range(classes):
        folder = top / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        for number in np.flatnonzero(truth == digit)[first : first + each]:
            pixels = (images[number].reshape(8, 8) * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return top


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def pipe(model: Path) -> ViTPipeline:
    return ViTPipeline.from_pretrained(model, device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 images of three classes, without a split."""
    return save_digits(tmp_path_factory.mktemp("digits"), 10)


@pytest.fixture(scope="module")
def whole(photos: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What an uninterrupted run of each method writes, by the command."""
    top = tmp_path_factory.mktemp("whole")
    for method in ("probe", "full"):
        subprocess.run(
            arguments(photos, model, top / method, method), check=True, env=quiet(), timeout=PATIENCE
        )
    return {method: top / method for method in ("probe", "full")}


def arguments(photos: Path, model: Path, output: Path, method: str, *more: object) -> list[str]:
    options = ["-o", output, "-m", model, "--method", method, "--device", "cpu", "--batch-size", 8]
    return [str(x) for x in (*COMMAND, photos, *options, "--epochs", 6, "--learning-rate", 3e-3, *more)]


def quiet() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def pixels(pipe: ViTPipeline, folder: Path) -> torch.Tensor:
    return pipe.preprocess([pipe.read(path) for path in sorted(folder.rglob("*.png"))])


# ---------------------------------------------------------------- the head


@pytest.mark.parametrize("classes", [2, 3])
def test_the_saved_heads_logits_are_scikit_learns_decision_function(
    pipe: ViTPipeline, tmp_path: Path, classes: int
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = save_digits(tmp_path / "digits", 10, classes)
    found = finetune(folder, pipe, tmp_path / "model", validation=0)
    paths = sorted(folder.rglob("*.png"))
    features, truth = pipe.features(paths).numpy(), [path.parent.name for path in paths]
    best = min(found.history, key=lambda entry: entry["loss"])["C"]
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=best, max_iter=1000)).fit(features, truth)
    saved = ViTForImageClassification.from_pretrained(tmp_path / "model")
    with torch.inference_mode():
        logits = saved(pixels(pipe, folder)).logits.numpy()
    decision = expected.decision_function(features)
    if classes == 2:
        assert logits[:, 1] - logits[:, 0] == pytest.approx(decision, abs=2e-4, rel=2e-4)
        assert logits.shape == (20, 2)
    else:
        assert logits == pytest.approx(decision, abs=2e-4, rel=2e-4)
    assert saved.config.id2label == {index: str(index) for index in range(classes)}
    probabilities = torch.from_numpy(logits).softmax(-1).numpy()
    assert probabilities == pytest.approx(expected.predict_proba(features), abs=1e-4)


def test_c_is_chosen_by_cross_validation_and_single_images_do_no_harm() -> None:
    draw = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [40, 40, 1])
    features = (draw.normal(0, 1, (81, 6)) + truth[:, None]).astype(np.float32)
    weights, bias, tried = probe.fit_head(features, truth, 0)
    assert (weights.shape, bias.shape, len(tried)) == ((3, 6), (3,), len(probe.STRENGTHS))
    assert tried == probe.fit_head(features, truth, 0)[2]
    assert tried != probe.fit_head(features, truth, 1)[2]
    _, _, none = probe.fit_head(features[[0, 40]], truth[[0, 40]], 0)
    assert none == []
    constant = np.concatenate([features, np.full((81, 1), 3.0, np.float32)], axis=1)
    assert np.isfinite(probe.fit_head(constant, truth, 0)[0]).all()


# ---------------------------------------------------------------- what is written


def test_the_folder_is_a_plain_checkpoint(
    pipe: ViTPipeline, photos: Path, tmp_path: Path, whole: dict[str, Path]
) -> None:
    for method, folder in whole.items():
        written = {path.name for path in folder.iterdir()}
        usual = {"config.json", "preprocessor_config.json", "model.safetensors"}
        assert written == usual | {"README.md", "training.json", "curves.png"}
        assert [path.name for path in folder.parent.iterdir() if method in path.name] == [method]
        mine = ViTPipeline.from_pretrained(folder, device="cpu")
        assert mine.labels == ("0", "1", "2")
        assert mine.notes == ()
        image = next(photos.rglob("*.png"))
        plain = pipeline("image-classification", str(folder), device="cpu")(str(image))
        assert mine(image).label == plain[0]["label"]
        assert mine(image).score == pytest.approx(plain[0]["score"], abs=1e-6)
        assert equal(weights(folder), weights(convert(folder, tmp_path / method)))
        kept = json.loads((folder / "preprocessor_config.json").read_text())
        assert kept["size"] == {"height": 16, "width": 16}
        said = json.loads((folder / "training.json").read_text())
        assert said["recipe"]["method"] == method
        assert said["recipe"]["seed"] == 0
        assert said["accuracy"]["images"] == sum(said["data"]["counts"]["val"].values()) == 6
        assert said["versions"]["transformers"]
    assert equal_but_head(weights(whole["probe"]), pipe.model.state_dict())


def equal_but_head(saved: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> bool:
    """The names on disk are older ones: compared by sorted content."""
    kept = [tensor for name, tensor in saved.items() if not name.startswith("classifier")]
    before = [tensor for name, tensor in state.items() if not name.startswith("classifier")]
    return all(any(a.shape == b.shape and torch.equal(a, b) for b in before) for a in kept) and len(
        kept
    ) == len(before)
