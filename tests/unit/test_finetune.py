"""``finetune``, its data checks and its command, on scikit-learn's digits and tiny or embedded models."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PATIENCE, Run, Spawn, wait_for
from make_timm import timm_config, write_timm
from PIL import Image
from safetensors.torch import load_file
from tiny import change_json, make_checkpoint
from transformers import Trainer, TrainingArguments, ViTForImageClassification, ViTModel, pipeline

from vit_pipeline import Finetuned, ViTPipeline, engine, finetune
from vit_pipeline.convert import convert
from vit_pipeline.errors import ArgumentError, OutputError, VitPipelineError
from vit_pipeline.training import data, full, probe

pytestmark = pytest.mark.slow

datasets = pytest.importorskip("sklearn.datasets")
pytest.importorskip("scipy")
FULL: dict[str, Any] = {"method": "full", "epochs": 4, "batch_size": 8, "learning_rate": 3e-3}
STEPS = 4 * 3  # of FULL on the 24 of 30 images that are trained on


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


@pytest.fixture(scope="module", autouse=True)
def trained_is_kept() -> Iterator[Any]:
    """A few steps of a tiny random model are worse than their start; these tests look at the steps."""
    with pytest.MonkeyPatch.context() as patched:
        loss = full.smoothed_loss
        patched.setattr(full, "smoothed_loss", lambda *_: 0.0)
        yield loss


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
def whole(photos: Path, pipe: ViTPipeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What an uninterrupted run of each method writes."""
    top = tmp_path_factory.mktemp("whole")
    for method in ("probe", "full"):
        finetune(photos, pipe, top / method, **FULL | {"method": method})
    return {method: top / method for method in ("probe", "full")}


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


def test_c_is_chosen_by_cross_validation_and_single_images_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [40, 40, 1])
    features = (draw.normal(0, 1, (81, 6)) + truth[:, None]).astype(np.float32)
    weights, bias, tried = probe.fit_head(features, truth, 0)
    assert (weights.shape, bias.shape, len(tried)) == ((3, 6), (3,), len(probe.STRENGTHS))
    assert tried == probe.fit_head(features, truth, 0)[2]
    assert tried != probe.fit_head(features, truth, 1)[2]
    _, _, none = probe.fit_head(features[[0, 40]], truth[[0, 40]], 0)
    assert none == []
    monkeypatch.setattr(probe, "_ENOUGH", 20)
    some = probe._some(truth, np.bincount(truth), 0)
    assert np.bincount(truth[some]).tolist() == [10, 10]
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
        assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # none is private
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
    kept, before = weights(whole["probe"]), pipe.model.state_dict()
    digests = [
        sorted(float(x.double().sum()) for n, x in of.items() if n[:10] != "classifier")
        for of in (kept, before)
    ]
    assert digests[0] == digests[1]


def test_a_model_card_with_labels_that_mean_something_to_markdown(pipe: ViTPipeline, tmp_path: Path) -> None:
    photos = save_digits(tmp_path / "digits", 6)
    labels = ["<script>alert(1)</script>", "狗 | cat\n# x", ".."]
    lines = [
        json.dumps({"path": str(path), "label": labels[int(path.parent.name)]})
        for path in photos.rglob("*.png")
    ]
    table = tmp_path / "labels.jsonl"
    table.write_text("\n".join(lines), encoding="utf-8")
    found = finetune(table, pipe, tmp_path / "model")
    assert found.pipe.labels == tuple(sorted(labels))
    assert ViTPipeline.from_pretrained(tmp_path / "model", device="cpu").labels == found.pipe.labels
    text = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "<script>" not in text
    assert "\n# x" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5, 7}  # images: class and three splits; confusion: 3 classes
    assert not any(character in str(found) for character in "\x1b\r")


# ---------------------------------------------------------------- what is found in the data


def seen_of(
    items: list[data.Item], digests: list[int] | None = None, errors: set[int] | None = None
) -> data.Seen:
    count = len(items)
    names = [f"{number:016}".encode() for number in digests or range(count)]
    said = dict.fromkeys(errors or (), "cannot be read")
    return data.Seen(np.zeros((count, 2), np.float32), np.array(names, "V16"), said)


def items_of(**counts: int) -> list[data.Item]:
    """``train_cat=3``: three images of cat in train; ``cat=3``: without a split."""
    found = []
    for key, count in counts.items():
        split, _, label = key.rpartition("_")
        found += [data.Item(f"{key}/{number}", f"{key}/{number}", label, split) for number in range(count)]
    return found


def test_a_stratified_split_drawn_by_the_seed() -> None:
    items = items_of(cat=50, dog=10, fox=1)
    plan, truth, of = data.make_plan("x", items, seen_of(items), 0, 0.2)
    assert plan.labels == ("cat", "dog", "fox")
    assert {split: list(table.values()) for split, table in plan.counts.items()} == {
        "train": [40, 8, 1],
        "val": [10, 2, 0],
        "test": [0, 0, 0],
    }
    assert [plan.labels[index] for index in truth] == [item.label for item in items]
    assert not set(of["train"]) & set(of["val"])
    again, other = (data.make_plan("x", items, seen_of(items), seed, 0.2)[2]["val"] for seed in (0, 1))
    assert of["val"].tolist() == again.tolist() != other.tolist()
    said = str(plan)
    assert "40 times as many images" in said
    assert "1 classes have a single image" in said
    assert len(data.make_plan("x", items, seen_of(items), 0, 0)[2]["val"]) == 0
    two = items_of(cat=2, dog=2)
    assert list(data.make_plan("x", two, seen_of(two), 0, 0.9)[0].counts["train"].values()) == [1, 1]


def test_copies_broken_images_and_empty_classes() -> None:
    items = items_of(train_cat=3, train_dog=3, train_owl=1, val_cat=2, val_dog=2, val_yak=1, test_dog=1)
    #          cat      dog      owl  cat     dog     yak  dog
    digests = [0, 1, 0, 3, 4, 5, 20, 1, 100, 3, 101, 102, 101]
    plan, truth, of = data.make_plan("x", items, seen_of(items, digests, {6, 4}), 0, 0.2)
    assert plan.labels == ("cat", "dog")
    assert of["train"].tolist() == [0, 1, 3, 5]
    assert of["val"].tolist() == [8, 10]
    assert of["test"].tolist() == []
    assert truth[[0, 3, 6]].tolist() == [0, 1, -1]
    said = "\n".join(plan.notes)
    assert "2 cannot be read" in said
    assert "4 are copies, 3 of them across" in said
    assert "test_dog/0 is val_dog/1" in said or "val_cat/0 is train_cat/1" in said
    assert "2 classes are left out: owl, yak" in said


def test_one_image_under_two_labels_is_left_out_of_both() -> None:
    items = items_of(cat=3, dog=3)
    plan, _, of = data.make_plan("x", items, seen_of(items, [0, 1, 2, 0, 4, 5]), 0, 0)
    assert of["train"].tolist() == [1, 2, 4, 5]
    assert "2 are the same image under several labels" in plan.notes[0]
    with pytest.raises(ArgumentError, match="only the class cat"):
        data.make_plan("x", items, seen_of(items, errors={3, 4, 5}), 0, 0)


def test_splits_of_the_source_are_kept(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("Validation", 4), ("test", 6)):
        save_digits(tmp_path / split, 2, first=first)
    items = data.find(tmp_path)
    plan, _, _ = data.make_plan(tmp_path, items, seen_of(items), 0, 0.5)
    assert [sum(table.values()) for table in plan.counts.values()] == [6, 6, 6]
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(ArgumentError, match="no train to train on"):
        data.find(tmp_path)


def test_hostile_folders(pipe: ViTPipeline, tmp_path: Path) -> None:
    photos = save_digits(tmp_path / "photos", 4, 2)
    (photos / "loop").symlink_to(photos)
    (photos / "0" / "loop").symlink_to(photos / "0")
    (photos / "empty").mkdir()
    (photos / "1" / "broken.png").write_bytes(b"\x89PNG")
    shutil.copy(next((photos / "0").glob("*.png")), photos / "0" / "copy.png")
    said: list[VitPipelineError] = []
    plans: list[Any] = []
    found = finetune(photos, pipe, on_error=said.append, on_plan=plans.append)
    assert found.pipe.labels == ("0", "1")
    assert sorted(str(error).partition(": ")[0] for error in said) == [
        str(photos / "1" / "broken.png"),
        str(photos / "empty"),
    ]
    assert plans == [found.plan]
    assert sum(sum(of.values()) for of in found.plan.counts.values()) == 8
    assert "left out: empty" in str(found.plan)
    for path in (photos / "1").iterdir():
        path.write_bytes(b"GIF89a")
    with pytest.raises(ArgumentError, match="only the class 0"):
        finetune(photos, pipe, tmp_path / "model")
    assert not list(tmp_path.glob("model*"))
    shutil.rmtree(photos / "1")
    with pytest.raises(ArgumentError, match="only the class 0"):
        data.find(photos)


def test_100_000_images_of_a_class(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = (f"images/{number}.png,{'cat' if number else 'dog'}\n" for number in range(100_001))
    table.write_text("path,label\n" + "".join(rows))
    items = data.find(table)
    digests = [(number + 1) // 2 for number in range(100_001)]  # each cat is there twice
    plan, _, _ = data.make_plan(table, items, seen_of(items, digests), 0, 0.2)
    assert plan.counts["train"] == {"cat": 40_000, "dog": 1}


# ---------------------------------------------------------------- all weights


def test_layers_learn_the_more_slowly_the_nearer_they_are_to_the_pixels(
    pipe: ViTPipeline, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.optim.Optimizer] = []
    create = full.ViTTrainer.create_optimizer
    monkeypatch.setattr(
        full.ViTTrainer, "create_optimizer", lambda self, model=None: made.append(create(self)) or made[0]
    )
    tuned = finetune(photos, pipe, **FULL | {"epochs": 1}).pipe.model
    rates = {
        id(p): (group["initial_lr"], group["weight_decay"])
        for group in made[0].param_groups
        for p in group["params"]
    }
    found = {name: rates[id(parameter)] for name, parameter in tuned.named_parameters()}
    assert len(rates) == len(found)
    top = FULL["learning_rate"]
    assert found["classifier.weight"] == (top, full.WEIGHT_DECAY)
    assert found["classifier.bias"] == found["vit.layernorm.weight"] == (top, 0)
    assert found["vit.layers.1.mlp.fc1.weight"] == (pytest.approx(top * 0.9), full.WEIGHT_DECAY)
    assert found["vit.layers.0.layernorm_before.weight"] == (pytest.approx(top * 0.9**2), 0)
    assert found["vit.embeddings.cls_token"] == (pytest.approx(top * 0.9**3), 0)


def test_accumulated_batches_are_one_large_batch(pipe: ViTPipeline, photos: Path) -> None:
    settings = FULL | {"epochs": 1, "validation": 0}
    large = finetune(photos, pipe, **settings | {"batch_size": 12}).pipe.model.state_dict()
    small = finetune(photos, pipe, **settings | {"batch_size": 4, "accumulate": 3}).pipe.model.state_dict()
    for name, tensor in large.items():
        if not name.endswith("k_proj.bias"):  # softmax cancels it: its gradient is rounding
            assert (tensor - small[name]).abs().mean() < 1e-5, name


def test_augmentation(pipe: ViTPipeline, photos: Path) -> None:
    image = pixels(pipe, photos)[0]

    def many(**options: Any) -> list[torch.Tensor]:
        return [full.augment(image, np.random.default_rng(seed), **options) for seed in range(20)]

    first = many(flip=True)
    assert all(torch.equal(a, b) for a, b in zip(first, many(flip=True), strict=True))
    assert all(one.shape == image.shape for one in first)
    assert not any(torch.equal(first[0], other) for other in first[1:])
    assert 3 < sum(not torch.equal(a, b) for a, b in zip(first, many(flip=False), strict=True)) < 17


def test_nothing_global_and_no_input_is_changed(pipe: ViTPipeline, photos: Path, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in pipe.model.state_dict().items()}
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    kept = finetune(photos, pipe, **FULL | {"epochs": 2})
    assert torch.equal(states[0], torch.get_rng_state())
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert equal(before, pipe.model.state_dict())
    assert len(pipe.labels) == 5
    written = finetune(photos, pipe, tmp_path / "model", **FULL | {"epochs": 2})
    assert equal(kept.pipe.model.state_dict(), written.pipe.model.state_dict())
    assert not equal(kept.pipe.model.state_dict(), finetune(photos, pipe).pipe.model.state_dict())
    assert not kept.pipe.model.training


def test_headless_rectangular_and_timm_models(photos: Path, tmp_path: Path) -> None:
    wide = make_checkpoint(tmp_path / "wide", image_size=[16, 24])
    change_json(wide / "preprocessor_config.json", size={"height": 16, "width": 24})
    backbone = tmp_path / "backbone"
    ViTModel.from_pretrained(wide, add_pooling_layer=False).save_pretrained(backbone)
    shutil.copy(wide / "preprocessor_config.json", backbone)
    timm = write_timm(
        tmp_path / "timm", timm_config("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=3)
    )
    for folder in (wide, backbone, timm):
        base = ViTPipeline.from_pretrained(folder, device="cpu")
        found = finetune(photos, base, tmp_path / f"{folder.name}-tuned", **FULL | {"epochs": 1})
        assert found.pipe.processor is base.processor
        again = ViTPipeline.from_pretrained(tmp_path / f"{folder.name}-tuned", device="cpu")
        image = next(photos.rglob("*.png"))
        assert torch.equal(again.preprocess(again.read(image)), base.preprocess(base.read(image)))
        assert again(image).score == found.pipe(image).score


def test_training_ends_when_validation_gets_no_better(
    pipe: ViTPipeline, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: what is kept is the best epoch's, tensor by tensor."""
    calls = iter(range(1, 100))

    def only_one_epoch_is_good(*given: Any) -> torch.Tensor:
        _, items, _ = given
        right = torch.nn.functional.one_hot(torch.tensor([int(item.label) for item in items]), 3).float()
        return right * (1 if next(calls) == 3 else -1)

    monkeypatch.setattr(full, "predict", only_one_epoch_is_good)
    monkeypatch.setattr(full, "PATIENCE", 2)
    copy = tmp_path / "checkpoints"
    save = Finetuned.save
    with monkeypatch.context() as patched:
        patched.setattr(
            Finetuned, "save", lambda *given: (shutil.copytree(f"{given[1]}.unfinished", copy), save(*given))
        )
        found = finetune(photos, pipe, tmp_path / "model", **FULL | {"epochs": 20})
    assert [entry["epoch"] for entry in found.history] == [1, 2, 3, 4, 5]
    assert sorted(path.name for path in copy.glob("checkpoint-*")) == ["checkpoint-15", "checkpoint-9"]
    assert equal(weights(tmp_path / "model"), weights(copy / "checkpoint-9"))
    last = weights(copy / "checkpoint-15")
    assert not any(torch.equal(tensor, last[name]) for name, tensor in weights(copy / "checkpoint-9").items())
    # killed after its last epoch: resumed, it is not trained on
    shutil.copytree(copy, tmp_path / "again.unfinished")
    seen: list[str] = []
    settings = FULL | {"epochs": 20, "resume": True}
    finetune(photos, pipe, tmp_path / "again", **settings, progress=lambda what, *_: seen.append(what))
    assert "train" not in seen
    assert equal(weights(tmp_path / "model"), weights(tmp_path / "again"))


def test_a_start_that_training_made_worse_is_kept(
    photos: Path,
    pipe: ViTPipeline,
    whole: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_is_kept: Any,
) -> None:
    monkeypatch.setattr(full, "smoothed_loss", trained_is_kept)
    worse = finetune(photos, pipe, tmp_path / "worse", **FULL | {"epochs": 1})
    said = "so its start is kept; use more epochs"
    files = [tmp_path / "worse" / name for name in ("README.md", "training.json")]
    assert all(said in text for text in (str(worse), *(path.read_text("utf-8") for path in files)))
    assert equal(weights(tmp_path / "worse"), weights(whole["probe"]))
    measured = json.loads((whole["probe"] / "training.json").read_text("utf-8"))["accuracy"]
    assert worse.to_dict()["accuracy"] == measured
    better = finetune(photos, pipe, **FULL | {"epochs": 40, "validation": 0})
    assert said not in str(better)
    start = finetune(photos, pipe, validation=0).pipe.model.state_dict()
    assert not equal(better.pipe.model.state_dict(), start)


def test_fewer_than_100_steps_are_smaller(photos: Path, pipe: ViTPipeline) -> None:
    settings = {"method": "full", "epochs": 2, "batch_size": 8}
    usual = 0.2 / pipe.model.config.hidden_size
    few = finetune(photos, pipe, **settings).recipe  # of 30 images without a split
    assert few["learning_rate"] == pytest.approx(usual * 2 * 4 / 100)
    assert finetune(photos, pipe, **settings, learning_rate=1e-4).recipe["learning_rate"] == 1e-4
    many = finetune(photos, pipe, **settings | {"epochs": 4, "batch_size": 1}).recipe
    assert many["learning_rate"] == pytest.approx(usual)


def test_when_transformers_restores_what_it_saved_our_loader_can_go(
    pipe: ViTPipeline, tmp_path: Path
) -> None:
    """Plain Trainer reads a checkpoint under other names than it looks for (upstream issue 43701)."""
    saved = {name: tensor.clone() for name, tensor in pipe.model.state_dict().items()}
    options = TrainingArguments(tmp_path / "out", report_to="none", use_cpu=True)
    with torch.random.fork_rng():
        trainer = Trainer(pipe.model, options)
    trainer.save_model(str(tmp_path / "checkpoint"))
    other = ViTForImageClassification(pipe.model.config)
    trainer.model = other
    trainer._load_from_checkpoint(str(tmp_path / "checkpoint"))
    mended = equal(saved, other.state_dict())
    assert not mended, "Trainer is mended: delete ViTTrainer._load_from_checkpoint and this test"


# ---------------------------------------------------------------- resuming

DRIVER = """
import os, signal, sys, torch
from vit_pipeline import ViTPipeline, finetune

torch.set_num_threads({threads})

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(what, done, total, measured):
    if (what, done) == ({what!r}, {at}):
        die()

if {inside!r}:
    torch.save = die  # of the optimizer: after the weights, before the state
pipe = ViTPipeline.from_pretrained({model!r}, device="cpu")
finetune({photos!r}, pipe, {output!r}, progress=progress, **{settings!r})
"""


def killed(
    photos: Path, model: Path, output: Path, what: str, at: int, settings: Any, inside: str = ""
) -> Path:
    """Run in a process of its own until it kills itself; what it leaves."""
    given = {"photos": str(photos), "model": str(model), "output": str(output), "settings": settings}
    script = DRIVER.format(what=what, at=at, inside=inside, threads=torch.get_num_threads(), **given)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    work = output.with_name(f"{output.name}.unfinished")
    assert work.is_dir()
    assert not output.exists()
    return work


@pytest.mark.parametrize(
    ("method", "what", "at", "inside"),
    [
        pytest.param("probe", "read", 16, "", marks=pytest.mark.long),
        ("probe", "read", 30, ""),
        ("full", "train", 0, ""),  # 0: a step that is drawn
        pytest.param("full", "train", STEPS, "", marks=pytest.mark.long),
        ("full", "", 0, "torch.save"),
    ],
)
def test_killed_and_resumed_is_bit_equal(
    photos: Path,
    model: Path,
    pipe: ViTPipeline,
    whole: dict[str, Path],
    tmp_path: Path,
    method: str,
    what: str,
    at: int,
    inside: str,
) -> None:
    settings = FULL | {"method": method}
    at = at or random.Random().randint(1, STEPS - 1)
    killed(photos, model, tmp_path / "model", what, at, settings, inside)
    with pytest.raises(OutputError, match="has an unfinished run; resume it"):
        finetune(photos, pipe, tmp_path / "model", **settings)
    finetune(photos, pipe, tmp_path / "model", resume=True, **settings)
    assert equal(weights(tmp_path / "model"), weights(whole[method])), at
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


class Stop(Exception):
    """Raised by a progress callback, in place of a signal."""


def stopped(
    photos: Path, pipe: ViTPipeline, output: Path, at: tuple[str, int], settings: dict[str, Any]
) -> None:
    def progress(what: str, done: int, *_: Any) -> None:
        if (what, done) == at:
            raise Stop

    with pytest.raises(Stop):
        finetune(photos, pipe, output, progress=progress, **settings)
    assert not any(thread.name == engine.THREAD for thread in threading.enumerate())


def test_what_is_cached_is_not_computed_again(
    photos: Path, pipe: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Path]
) -> None:
    monkeypatch.setattr(data, "_CHUNK", 1)
    stopped(photos, pipe, tmp_path / "model", ("read", 24), FULL | {"method": "probe"})
    pooled, counts = type(pipe).pooled, []
    monkeypatch.setattr(
        type(pipe), "pooled", lambda self, values: counts.append(len(values)) or pooled(self, values)
    )
    finetune(photos, pipe, tmp_path / "model", resume=True, **FULL | {"method": "probe"})
    assert sum(counts) == 30 - 16  # the third batch was computed, but not written yet
    assert equal(weights(tmp_path / "model"), weights(whole["probe"]))


def test_what_is_there_is_never_overwritten_or_mixed(photos: Path, pipe: ViTPipeline, tmp_path: Path) -> None:
    output = tmp_path / "model"
    stopped(photos, pipe, output, ("train", 7), FULL)
    with pytest.raises(OutputError, match="unfinished"):
        finetune(photos, pipe, output, **FULL)
    for name, value in (
        ("seed", 1),
        ("learning_rate", 1e-4),
        ("epochs", 5),
        ("flip", True),
        ("method", "probe"),
    ):
        with pytest.raises(ArgumentError, match=rf"other settings: .*{name} \(was "):
            finetune(photos, pipe, output, resume=True, **FULL | {name: value})
    other = shutil.copytree(photos, tmp_path / "other")
    with pytest.raises(ArgumentError, match="the images or labels"):
        finetune(other, pipe, output, resume=True, **FULL)
    changed = ViTPipeline(ViTForImageClassification(pipe.model.config), pipe.processor)
    with pytest.raises(ArgumentError, match=r"model \(was .*weights \(was "):
        finetune(photos, changed, output, resume=True, **FULL)
    finetune(photos, pipe, output, resume=True, **FULL)
    for resume in (False, True):
        with pytest.raises(OutputError, match="is there already"):
            finetune(photos, pipe, output, resume=resume, **FULL)
    with pytest.raises(ArgumentError, match="where it would be a class"):
        finetune(photos, pipe, photos / "model")


def test_two_runs_at_once(photos: Path, pipe: ViTPipeline, tmp_path: Path) -> None:
    def progress(*_: Any) -> None:
        with pytest.raises(OutputError, match="another run is at work"):
            finetune(photos, pipe, tmp_path / "model", resume=True)

    finetune(photos, pipe, tmp_path / "model", progress=progress)


@pytest.mark.parametrize("method", ["probe", "full"])
def test_a_full_disk_is_one_line_and_a_resume_completes_it(
    photos: Path, pipe: ViTPipeline, whole: dict[str, Path], tmp_path: Path, method: str
) -> None:
    """Files may grow no further than 20 kB: from the fifth step on, when one checkpoint is complete."""
    limit, output, settings = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        tmp_path / "m",
        FULL | {"method": method},
    )

    def fill(what: str, done: int, *_: Any) -> None:
        if method == "probe" or (what, done) == ("train", 5):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))

    try:
        with pytest.raises(OutputError, match=r"^.*m(\.unfinished)?: .*written.*$") as caught:
            finetune(photos, pipe, output, progress=fill, **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(caught.value)
    left = sorted(path.name for path in (tmp_path / "m.unfinished").glob("checkpoint-*"))
    assert left == (["checkpoint-3"] if method == "full" else [])
    assert not output.exists()
    finetune(photos, pipe, output, resume=True, **settings)
    assert equal(weights(output), weights(whole[method]))


# ---------------------------------------------------------------- what is rejected


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "lora"}, "method is 'lora'"),
        ({"validation": 1}, "validation is 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        (FULL | {"epochs": 0}, "epochs is 0"),
        (FULL | {"learning_rate": 0}, "learning_rate is 0"),
        (FULL | {"learning_rate": float("nan")}, "learning_rate is nan"),
        (FULL | {"dtype": "float16"}, "float16"),
    ],
)
def test_wrong_settings(photos: Path, pipe: ViTPipeline, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(VitPipelineError, match=says):
        finetune(photos, pipe, **settings)


def test_without_scikit_learn(
    photos: Path, pipe: ViTPipeline, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    with pytest.raises(ArgumentError, match="pip install 'scikit-learn"):
        finetune(photos, pipe)
    code, out, err = run("finetune", photos, "-o", tmp_path / "model", "-m", "demo")
    assert (code, out, list(tmp_path.iterdir())) == (2, "", [])
    assert "pip install 'scikit-learn" in err


def test_bfloat16_is_for_the_products_only(photos: Path, pipe: ViTPipeline) -> None:
    settings = FULL | {"epochs": 1}
    rounded = finetune(photos, pipe, **settings | {"dtype": "bfloat16"}).pipe
    assert {tensor.dtype for tensor in rounded.model.state_dict().values()} == {torch.float32}
    assert not equal(rounded.model.state_dict(), finetune(photos, pipe, **settings).pipe.model.state_dict())


def test_a_model_in_bfloat16_is_rejected(photos: Path, model: Path) -> None:
    with pytest.raises(ArgumentError, match="float32"):
        finetune(photos, ViTPipeline.from_pretrained(model, device="cpu", dtype="bfloat16"))


def test_an_image_that_vanishes_while_training(pipe: ViTPipeline, tmp_path: Path) -> None:
    photos = save_digits(tmp_path / "photos", 4)

    def progress(what: str, done: int, *_: Any) -> None:
        if (what, done) == ("train", 1):
            shutil.rmtree(photos)

    with pytest.raises(VitPipelineError, match=r"\.png: "):
        finetune(photos, pipe, tmp_path / "model", progress=progress, **FULL)


# ---------------------------------------------------------------- the command


def test_the_command(run: Run, photos: Path, model: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "my model"
    (options := ["-o", output, "-m", model, "--device", "cpu", "--batch-size", 8])
    code, out, err = run("finetune", photos, *options)
    assert code == 0
    assert "accuracy" in out.splitlines()[1]
    assert "3 classes; images: 24 to train on, 6 to validate with" in err
    assert err.splitlines()[-1].endswith(f"-m '{output}' IMAGE")
    assert equal(weights(output), weights(whole["probe"]))
    image = next(photos.rglob("*.png"))
    assert run("predict", "-m", output, "--device", "cpu", image)[1].startswith("Predicted class: ")
    code, out, err = run("finetune", photos, *options, "--method", "full")
    assert (code, out) == (1, "")
    assert "is there already" in err.splitlines()[-1]
    code, _, err = run("finetune", tmp_path / "nothing", "-o", tmp_path / "x", "-m", model)
    assert code == 2
    assert "cannot be read" in err.splitlines()[-1]
    assert not list(tmp_path.glob("x*"))


def test_ctrl_c_says_how_to_resume(photos: Path, model: Path, tmp_path: Path, spawn: Spawn) -> None:
    output = tmp_path / "model"
    options = ["-o", output, "-m", model, "--method", "full", "--epochs", 100_000, "--device", "cpu"]
    process = spawn(sys.executable, "-m", "vit_pipeline", "finetune", photos, *options)
    work = tmp_path / "model.unfinished"
    wait_for(lambda: list(work.glob("checkpoint-*/trainer_state.json")), "a checkpoint")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not output.exists()


@pytest.mark.long
def test_two_processes_train_as_one_with_batches_twice_as_large(
    photos: Path, model: Path, pipe: ViTPipeline, tmp_path: Path
) -> None:
    """As ``accelerate launch`` starts them, here on the CPU."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "vit_pipeline"]
    options = ["-o", tmp_path / "two", "-m", model, "--method", "full", "--device", "cpu", "--epochs", 20]
    options += ["--validation", 0]
    options += ["--batch-size", 6, "--learning-rate", FULL["learning_rate"]]
    command = [str(part) for part in (sys.executable, *launch, "finetune", photos, *options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("full from ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["two"]
    finetune(photos, pipe, tmp_path / "one", **FULL | {"epochs": 20, "batch_size": 12, "validation": 0})
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert "start is kept" not in (tmp_path / "two" / "README.md").read_text("utf-8")
    for name, tensor in one.items():
        assert (tensor - two[name]).abs().mean() < 1e-4 or name.endswith("key.bias"), name
