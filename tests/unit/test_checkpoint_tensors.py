from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_checkpoint, with_new_names
from transformers import ViTConfig, ViTForImageClassification

from vit_pipeline.checkpoints import tensors as ckpt
from vit_pipeline.errors import CheckpointError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def config(folder: Path) -> ViTConfig:
    return ViTConfig.from_pretrained(folder)


def shapes(config: ViTConfig) -> dict[str, ckpt.StoredTensor]:
    """Every tensor of the model, under its name on disk, with nothing behind it."""
    with torch.device("meta"):
        live = ViTForImageClassification(config).state_dict()
    return {
        ckpt.to_checkpoint_key(name): ckpt.StoredTensor(tuple(t.shape), "F32", lambda: torch.empty(0))
        for name, t in live.items()
    }


def test_the_live_names_on_disk_are_those_of_a_file(folder: Path, config: ViTConfig) -> None:
    stored = ckpt.read_weights([folder / "model.safetensors"], "it")
    assert {name: t.shape for name, t in shapes(config).items()} == {n: t.shape for n, t in stored.items()}
    _, state, unused = ckpt.match(stored, config, "it")
    assert list(state) == list(ViTForImageClassification(config).state_dict())
    assert unused == []


def test_names_on_disk_stay_as_they_are(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        assert ckpt.to_checkpoint_key(name) == name
    for new, old in zip(with_new_names(tensors), tensors, strict=True):
        assert ckpt.to_checkpoint_key(new) == old
    assert ckpt.to_checkpoint_key("vit.layers.3.mlp.fc1") == "vit.encoder.layer.3.intermediate.dense"
    assert ckpt.to_checkpoint_key("vit.layers.3.mlp.fc1x.weight") == "vit.layers.3.mlp.fc1x.weight"


def test_tensors_must_be_those_of_the_config(config: ViTConfig) -> None:
    good = shapes(config)
    ckpt.match(good, config, "it")
    name = "vit.encoder.layer.1.output.dense.bias"

    def stored(*shape: int, dtype: str = "F32") -> ckpt.StoredTensor:
        return ckpt.StoredTensor(shape, dtype, lambda: torch.empty(0))

    for wrong, says in (
        ({k: v for k, v in good.items() if k != name}, f"lack {name}"),
        (good | {"vit.surprise.weight": stored(24, 24)}, r"unexpected vit\.surprise\.weight"),
        (good | {name: stored(25)}, r"has the shape \(25,\); config.json asks for \(24,\)"),
        (good | {name: stored(24, dtype="I8")}, "type I8"),
        (good | {name: stored(24, dtype="F8_E4M3")}, "type F8_E4M3"),
        (good | {"classifier.weight": stored(4, 24)}, "4 outputs and config.json 5 class names"),
        (good | {"vit.layers.1.mlp.fc2.bias": stored(24)}, "twice"),
        ({}, "lack vit.embeddings.cls_token and 39 more"),
    ):
        with pytest.raises(CheckpointError, match=says):
            ckpt.match(wrong, config, "it")


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
