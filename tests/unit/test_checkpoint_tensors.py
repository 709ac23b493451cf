from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
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


def test_expected_shapes_are_those_of_the_model_and_of_the_file(folder: Path, config: ViTConfig) -> None:
    expected = ckpt.expected_shapes(config.to_dict())
    live = ViTForImageClassification(config).state_dict()
    assert {ckpt.to_checkpoint_key(name): tuple(t.shape) for name, t in live.items()} == expected
    assert ckpt.safetensors_shapes(folder / "model.safetensors") == expected


def test_without_qkv_bias(config: ViTConfig) -> None:
    settings = config.to_dict() | {"qkv_bias": False}
    live = ViTForImageClassification(ViTConfig(**settings)).state_dict()
    assert len(ckpt.expected_shapes(settings)) == len(live)


def test_names_on_disk_stay_as_they_are(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        assert ckpt.to_checkpoint_key(name) == name
    for new, old in zip(with_new_names(tensors), tensors, strict=True):
        assert ckpt.to_checkpoint_key(new) == old
    assert ckpt.to_checkpoint_key("vit.layers.3.mlp.fc1") == "vit.encoder.layer.3.intermediate.dense"
    assert ckpt.to_checkpoint_key("vit.layers.3.mlp.fc1x.weight") == "vit.layers.3.mlp.fc1x.weight"


def test_tensors_must_be_exactly_those_of_the_config(config: ViTConfig) -> None:
    settings = config.to_dict()
    shapes = ckpt.expected_shapes(settings)
    ckpt.check_tensors(shapes, settings, "it")
    name = "vit.encoder.layer.1.output.dense.bias"
    for wrong, says in (
        ({k: v for k, v in shapes.items() if k != name}, f"lack {name}"),
        (shapes | {"vit.pooler.dense.weight": (24, 24)}, "unexpected vit.pooler.dense.weight"),
        (shapes | {name: (25,)}, r"has the shape \(25,\); config.json asks for \(24,\)"),
        (shapes | {"classifier.weight": (4, 24)}, "4 outputs and config.json has 5 class names"),
        (shapes | {"vit.layers.1.mlp.fc2.bias": (24,)}, "twice"),
        ({}, "lack vit.embeddings.cls_token and 39 more"),
    ):
        with pytest.raises(CheckpointError, match=says):
            ckpt.check_tensors(wrong, settings, "it")


def test_damaged_files_are_refused(folder: Path, tmp_path: Path) -> None:
    good = (folder / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    for content, says in (
        (b"", "damaged or cut short"),
        (good[:5], "damaged or cut short"),
        (good[:-1], "damaged or cut short"),
        (good + b"\0", "damaged or cut short"),
        (good[:100], "damaged or cut short"),
        (struct.pack("<Q", 2**62) + good[8:], "header claims"),
        (struct.pack("<Q", 50_000_000) + good[8:], "header claims 50,000,000 bytes"),
        (b"<html>" + good[6:], "header claims"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=says):
            ckpt.safetensors_shapes(path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        ckpt.safetensors_shapes(tmp_path / "none" / "model.safetensors")


def test_integers_are_not_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a float"):
        ckpt.safetensors_shapes(tmp_path / "model.safetensors")
