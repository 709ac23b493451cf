from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from tiny import make_checkpoint, to_checkpoint_key, with_new_names
from transformers import ViTConfig, ViTForImageClassification

from vit_pipeline.checkpoints import tensors as ckpt
from vit_pipeline.errors import CheckpointError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def config(folder: Path) -> ViTConfig:
    return ViTConfig.from_pretrained(folder)


def shapes(config: ViTConfig) -> dict[str, torch.Tensor]:
    """Every tensor of the model, under its name on disk, all zeros."""
    with torch.device("meta"):
        live = ViTForImageClassification(config).state_dict()
    return {to_checkpoint_key(name): torch.zeros(tensor.shape) for name, tensor in live.items()}


def test_the_tensors_of_a_file_are_those_of_the_model(folder: Path, config: ViTConfig) -> None:
    stored = ckpt.read_weights([folder / "model.safetensors"], "it")
    assert {n: t.shape for n, t in shapes(config).items()} == {n: t.shape for n, t in stored.items()}
    model, load, unused = ckpt.match(stored, config, "it")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    loaded = load(torch.float32)
    assert not loaded.training
    assert {to_checkpoint_key(name): t.data_ptr() for name, t in loaded.state_dict().items()} == {
        name: tensor.data_ptr()
        for name, tensor in stored.items()  # not a byte was copied
    }
    assert unused == []


def test_names_may_lack_the_models_prefix(folder: Path, config: ViTConfig) -> None:
    stored = ckpt.read_weights([folder / "model.safetensors"], "it")
    _, load, _ = ckpt.match({n.removeprefix("vit."): t for n, t in stored.items()}, config, "it")
    state = load(torch.float32).state_dict()
    assert all(torch.equal(state[name], t) for name, t in with_new_names(dict(stored)).items())


def test_tensors_must_be_those_of_the_config(config: ViTConfig) -> None:
    good = shapes(config)
    ckpt.match(good, config, "it")
    name, live = "vit.encoder.layer.1.output.dense.bias", "vit.layers.1.mlp.fc2.bias"
    for wrong, says in (
        ({k: v for k, v in good.items() if k != name}, f"lack {live}: "),
        (good | {"vit.surprise.weight": torch.zeros(24, 24)}, r"unexpected vit\.surprise\.weight"),
        (good | {name: torch.zeros(25)}, rf"{live} has the shape \(25,\); config.json asks for \(24,\)"),
        (good | {name: torch.zeros(24, dtype=torch.int8)}, f"{name} has the type int8"),
        (good | {name: torch.zeros(24, dtype=torch.float8_e4m3fn)}, "type float8_e4m3fn"),
        (good | {name: torch.zeros(24).to_sparse()}, "type sparse_coo"),
        (good | {name: torch.zeros(24, device="meta")}, "type meta"),
        (good | {"classifier.weight": torch.zeros(4, 24)}, "4 outputs and config.json 5 class names"),
        (good | {live: torch.zeros(24)}, "twice"),
        ({k: v for k, v in good.items() if "layer.1.output" not in k}, "lack .* and 1 more"),
        ({}, "0 tensors, too few for config.json's 2 layers"),
    ):
        with pytest.raises(CheckpointError, match=says):
            ckpt.match(wrong, config, "it")


def test_the_number_of_tensors_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ckpt, "MAX_TENSORS", 39)
    with pytest.raises(CheckpointError, match="more than 39 tensors"):
        ckpt.read_weights([folder / "model.safetensors"], "it")


def test_damaged_files_are_refused(folder: Path, tmp_path: Path) -> None:
    good = (folder / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    for content, says in (
        (b"", "is empty"),
        (good[:5], "cut short, damaged"),
        (good[:-1], "cut short, damaged"),
        (good + b"\0", "cut short, damaged"),
        (good[:100], "cut short, damaged"),
        (struct.pack("<Q", 2**62) + good[8:], "header claims"),
        (struct.pack("<Q", 50_000_000) + good[8:], "header claims 50,000,000 bytes"),
        (b"<html>" + good[6:], "header claims"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=says):
            ckpt.read_weights([path], "it")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        ckpt.read_weights([tmp_path / "none" / "model.safetensors"], "it")
