"""Small random ViT checkpoints, as files, for tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
}


#: in a layer, the names on disk, which are those of transformers ≤ 5.8 → the modules' in ≥ 5.9
NEW_NAMES = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def to_checkpoint_key(name: str) -> str:
    """The name on disk of a module or parameter of transformers ≥ 5.9."""
    match = re.fullmatch(r"((?:vit\.)?)layers\.(\d+)\.(attention\.\w+|mlp\.fc\d|layernorm_\w+)(.*)", name)
    on_disk = {new: old for old, new in NEW_NAMES.items()}
    return (
        f"{match[1]}encoder.layer.{match[2]}.{on_disk.get(match[3], match[3])}{match[4]}" if match else name
    )


def make_checkpoint(folder: Path, *, seed: int = 0, labels: int = 5, **changes: Any) -> Path:
    """A folder as ``save_pretrained`` writes it: old key names (transformers ≤ 5.8)."""
    names = {index: f"thing {index}" for index in range(labels)}
    torch.manual_seed(seed)
    config = ViTConfig(**(SIZES | changes), id2label=names, label2id={n: i for i, n in names.items()})
    model = ViTForImageClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the initial ones, so that images differ
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    side = config.image_size
    ViTImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    return folder


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps({key: entry for key, entry in value.items() if entry is not None}))


def change_tensors(folder: Path, change: Any) -> None:
    """Replace the tensors of ``model.safetensors`` by ``change(tensors)``."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def with_new_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under the names of transformers ≥ 5.9."""

    def rename(name: str) -> str:
        match = re.fullmatch(r"vit\.encoder\.layer\.(\d+)\.(.*)\.(weight|bias)", name)
        return f"vit.layers.{match[1]}.{NEW_NAMES.get(match[2], match[2])}.{match[3]}" if match else name

    return {rename(name): tensor for name, tensor in tensors.items()}
