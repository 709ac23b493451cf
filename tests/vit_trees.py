"""Small models, and the module trees of other versions of transformers, for the tests of the structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from vit_pipeline.structure import ModelStructure

TREES = Path(__file__).parent / "golden" / "trees"
VERSIONS = ("4.45", "5.8", "5.9")
WIDTH, TOKENS = 24, 17


def listing(version: str) -> list[tuple[str, str]]:
    """Path and class of every module of a ViT with two layers, as that version declares them."""
    rows = json.loads((TREES / f"transformers_{version}.json").read_text(encoding="utf-8"))
    return [(path, kind) for path, kind in rows]


def tiny(layers: int = 2, **settings: Any) -> ViTForImageClassification:
    sizes = {"hidden_size": WIDTH, "num_attention_heads": 3, "intermediate_size": 48, "image_size": 32}
    torch.manual_seed(0)
    config = ViTConfig(**{**sizes, "patch_size": 8, "num_hidden_layers": layers, **settings})
    return ViTForImageClassification(config).eval()


def leaf(path: str, kind: str) -> nn.Module:
    """A module of the sizes of ``tiny()``, for a tree of another version."""
    if kind == "Conv2d":
        return nn.Conv2d(3, WIDTH, 8, 8)
    if kind == "LayerNorm":
        return nn.LayerNorm(WIDTH, eps=1e-12)
    if kind == "Dropout":
        return nn.Dropout(0.0)
    if kind == "Linear":
        wide = path.endswith(("intermediate.dense", "fc1"))
        narrow = path.endswith("fc2") or (path.endswith("output.dense") and ".attention." not in path)
        return nn.Linear(48 if narrow else WIDTH, 48 if wide else 2 if path == "classifier" else WIDTH)
    return type(kind, (nn.Module,), {})()


def drawing(version: str) -> nn.Module:
    """The tree of a version of transformers, which cannot be run; with the parameters of ``tiny()``."""
    modules: dict[str, nn.Module] = {}
    for path, kind in listing(version):
        module = nn.ModuleList() if kind == "ModuleList" else leaf(path, kind)
        modules[path] = module
        if path:
            parent, _, name = path.rpartition(".")
            modules[parent].add_module(name, module)
    embeddings = modules["vit.embeddings"]
    embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
    embeddings.position_embeddings = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
    modules[""].config = tiny().config
    return modules[""]


def sums(structure: ModelStructure) -> tuple[int, int, int]:
    rows = [row for row in structure.rows if row.cost is not None]
    return (
        sum(row.params * row.repeat for row in structure.rows),
        sum(row.cost.macs * row.repeat for row in rows if row.cost),
        sum(row.cost.activations_timm * row.repeat for row in rows if row.cost),
    )
