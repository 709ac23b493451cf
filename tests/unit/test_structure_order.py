"""Folding of equal layers, and the order of execution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import ViTForImageClassification
from vit_trees import tiny

from vit_pipeline.structure import ModelStructure, describe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base() -> ModelStructure:
    return describe("vit-base")


# Folding


def folds(structure: ModelStructure) -> list[tuple[int, str]]:
    return [(row.repeat, row.label) for row in structure.rows if row.role == "layer"]


def change(model: ViTForImageClassification, what: str) -> None:
    layer = model.vit.layers[3]
    if what == "dropout":
        layer.dropout.p = 0.1
    elif what == "eps":
        layer.layernorm_after.eps = 1e-3
    elif what == "attention_dropout":
        layer.attention.attention_dropout = 0.2
    elif what == "activation":
        layer.mlp.activation_fn = nn.ReLU()
    elif what == "bias":
        layer.attention.q_proj.bias = None
    elif what == "extra":
        layer.add_module("extra", nn.Identity())


@pytest.mark.parametrize("what", ["dropout", "eps", "attention_dropout", "activation", "bias", "extra"])
@pytest.mark.parametrize("order", ["module", "execution"])
def test_one_layer_that_differs_in_one_value_stands_alone(what: str, order: Any) -> None:
    model = tiny(12)
    assert folds(describe(model, order=order)) == [(12, "0–11")]
    change(model, what)
    assert folds(describe(model, order=order)) == [(3, "0–2"), (1, "3"), (8, "4–11")]
    assert len(folds(describe(model, all_layers=True))) == 12


def test_weights_and_modes_do_not_keep_layers_apart() -> None:
    model = tiny(3)
    with torch.no_grad():
        model.vit.layers[1].mlp.fc1.weight.zero_()
    model.vit.layers[1].train()
    assert folds(describe(model)) == [(3, "0–2")]


# Execution order


@pytest.mark.parametrize("how", [{}, {"hidden_dropout_prob": 0.1}, {"qkv_bias": False}])
def test_execution_order_is_that_of_hooks(how: dict[str, Any]) -> None:
    model = tiny(3, **how)
    before: list[str] = []
    leaves: list[str] = []
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: before.append(path)))
        if not list(module.children()):
            handles.append(module.register_forward_hook(lambda *_, path=path: leaves.append(path)))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    structure = describe(model, order="execution", all_layers=True)
    rows = [row.path for row in structure.rows if row.kind == "module" and row.class_name != "ModuleList"]
    assert rows == before  # parents first
    assert [path for path in rows if path in leaves] == leaves


def test_describing_does_not_fire_or_keep_hooks() -> None:
    model = tiny()
    fired: list[int] = []
    model.vit.layers[0].register_forward_hook(lambda *_: fired.append(1))
    describe(model, order="execution")
    assert fired == []
    assert sum(len(module._forward_hooks) for module in model.modules()) == 1


def test_execution_order_of_a_layer_reads_as_in_the_paper() -> None:
    rows = describe("demo", order="execution").rows
    layer = [row.role for row in rows if row.path.startswith("vit.layers.0.") or row.kind == "step"]
    flow = (
        "layernorm_before attention query key value split_heads attention_core attention_dense layer_dropout "
        "residual_attention layernorm_after mlp fc1 activation fc2 layer_dropout residual_mlp take_cls"
    )
    assert layer == flow.split()
    dropouts = [row for row in rows if row.role == "layer_dropout"]
    assert [row.call for row in dropouts] == [(1, 2), (2, 2)]
    assert dropouts[0].tutorial_paths == ("vit.encoder.layer.0.attention.output.dropout",)


def test_a_module_that_is_never_called_comes_last() -> None:
    model = tiny()
    model.vit.embeddings.add_module("unused", nn.Linear(2, 2))
    structure = describe(model, order="execution")
    rows = structure.rows
    assert structure.not_counted == ()
    inside = [row.label for row in rows if row.path.startswith("vit.embeddings.") and row.depth == 3]
    assert inside[-1] == "unused"
    unused = next(row for row in rows if row.label == "unused")
    assert "never calls" in unused.text
