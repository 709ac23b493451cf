"""The structure of models: rows that sum up, every version's tree, folding, order, and the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tiny import to_checkpoint_key
from torch import nn
from transformers import BertConfig, ViTConfig, ViTForImageClassification, ViTModel
from vit_trees import TOKENS, VERSIONS, WIDTH, drawing, listing, sums, tiny

from vit_pipeline.errors import ArgumentError, CheckpointError
from vit_pipeline.names import KNOWN_MODELS
from vit_pipeline.structure import Cost, ModelStructure, describe


@pytest.fixture(scope="module")
def base() -> ModelStructure:
    return describe("vit-base")


# Rows sum to the total


@pytest.mark.parametrize("name", list(KNOWN_MODELS))
@pytest.mark.parametrize(
    "how", [{}, {"all_layers": True}, {"depth": 2}, {"depth": 0}, {"order": "execution"}]
)
def test_rows_sum_to_the_total(name: str, how: dict[str, Any]) -> None:
    structure = describe(name, **how)
    totals = {"vit-base": 86_567_656, "vit-small": 22_050_664, "demo": 2_693_578}
    assert structure.params == totals[name]
    assert sums(structure) == (structure.params, structure.cost.macs, structure.cost.activations_timm)
    assert structure.rows[0].params_total == structure.params


def test_what_never_prints_has_rows_and_shapes(base: ModelStructure) -> None:
    steps = {row.role: row for row in base.rows if row.kind != "module"}
    assert steps["cls_token"].params == 768
    assert steps["position_embeddings"].params == 197 * 768
    assert (steps["cls_token"].in_shape, steps["cls_token"].out_shape) == ((1, 196, 768), (1, 197, 768))
    assert steps["split_heads"].out_shape == (1, 12, 197, 64)
    assert steps["attention_core"].out_shape == (1, 197, 768)
    assert steps["attention_core"].cost is not None
    assert steps["attention_core"].cost.macs == 2 * 12 * 197 * 197 * 64
    assert {"residual_attention", "residual_mlp"} < steps.keys()
    assert (steps["take_cls"].in_shape, steps["take_cls"].out_shape) == ((1, 197, 768), (1, 768))


# Checkpoint keys


def keys_on_disk(model: nn.Module) -> dict[str, str]:
    """Live parameter → its key in a checkpoint file, as the rows have it."""
    prefixes = {row.path: row.checkpoint_key for row in describe(model, all_layers=True).rows}
    keys = {}
    for name, _ in model.named_parameters():
        path = name if name in prefixes else name.rpartition(".")[0]
        keys[name] = f"{prefixes[path]}{name.removeprefix(path)}"
    return keys


@pytest.mark.parametrize("kind", [ViTForImageClassification, ViTModel])
def test_every_key_of_a_checkpoint_file_is_one_live_parameter(kind: Any, tmp_path: Path) -> None:
    kind(tiny(6).config).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        on_disk = list(file.keys())
    model = kind(tiny(6).config)
    assert sorted(keys_on_disk(model).values()) == sorted(on_disk)


def test_every_key_of_the_embedded_file_is_one_of_its_rows() -> None:
    folder = KNOWN_MODELS["demo"].folder
    assert folder is not None
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert sorted(keys_on_disk(tiny(6)).values()) == sorted(file.keys())


def test_rows_name_the_prefix_on_disk() -> None:
    model = tiny()
    for row in describe(model, all_layers=True).rows:
        below = [n for n, _ in model.named_parameters() if n == row.path or n.startswith(f"{row.path}.")]
        if row.checkpoint_key is not None:
            assert below
            assert all(to_checkpoint_key(name).startswith(row.checkpoint_key) for name in below)


# The trees of other versions


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("order", ["module", "execution"])
def test_trees_of_other_versions_are_known(version: str, order: Any) -> None:
    structure = describe(drawing(version), all_layers=True, order=order)
    assert [row.path for row in structure.rows if row.role is None] == []
    assert structure.params == sums(structure)[0] == describe(tiny()).params
    steps = {row.role for row in structure.rows if row.kind == "step"}
    assert {"attention_core", "residual_attention", "residual_mlp", "take_cls"} <= steps


def test_names_beside_each_other() -> None:
    old = {row.role: row for row in describe(drawing("5.8"), all_layers=True).rows}
    new = {row.role: row for row in describe(drawing("5.9"), all_layers=True).rows}
    for role in ("query", "attention_dense", "fc1", "fc2", "layers"):
        assert new[role].tutorial_paths == old[role].tutorial_paths == (old[role].path,)
    assert new["layer_dropout"].tutorial_paths == (
        old["attention_output_dropout"].path,
        old["mlp_dropout"].path,
    )


@pytest.mark.parametrize(
    "stranger", [nn.Linear(WIDTH, WIDTH), nn.Dropout(0.0), nn.Sequential(nn.LayerNorm(WIDTH))]
)
def test_an_unrelated_module_is_unknown(stranger: nn.Module) -> None:
    model = tiny()
    model.vit.layers[1].add_module("adapter", stranger)
    structure = describe(model, all_layers=True)
    strange = [row for row in structure.rows if row.role is None]
    assert strange[0].path == "vit.layers.1.adapter"
    assert len(strange) == len(list(stranger.modules()))
    assert all("nknown" in row.brief and not row.tutorial_paths for row in strange)
    assert sums(structure)[0] == sum(parameter.numel() for parameter in model.parameters())
    assert "unknown" in str(structure)
    assert "unknown" in structure.to_html()


def test_any_module_can_be_described() -> None:
    structure = describe(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    assert [row.role for row in structure.rows] == [None, None, None]
    assert structure.params == 10
    assert structure.not_counted == ("0",)
    assert "nn." not in str(structure)
    model = ViTModel(tiny().config)
    assert [row.path for row in describe(model).rows if row.role is None] == []
    assert [row.path for row in describe(nn.ModuleDict({"inner": tiny()})).rows if row.role is None] == [""]


@pytest.mark.parametrize("order", ["module", "execution"])
def test_a_backbone_costs_what_it_costs_in_a_classifier(order: Any) -> None:
    classifier = describe(tiny(), order=order)
    model = ViTModel(tiny().config, add_pooling_layer=False)
    backbone = describe(model, order=order)
    vit = next(row for row in classifier.rows if row.path == "vit")
    assert [row.path for row in backbone.rows if row.role is None] == []
    assert (backbone.params, backbone.cost) == (vit.params_total, vit.cost_total)
    assert backbone.output_shape == (1, TOKENS, WIDTH)
    assert describe(model.config).class_name == "ViTForImageClassification"
    model.config.architectures = ["ViTModel"]
    assert describe(model.config).class_name == "ViTModel"
    assert describe(model.config).params == backbone.params


@pytest.mark.parametrize("order", ["module", "execution"])
def test_a_model_that_cannot_run_without_numbers_says_what_is_not_counted(
    order: Any,
) -> None:
    model = tiny()
    model.vit.layers[0].mlp.register_forward_pre_hook(lambda *_: None)  # its own hooks are left alone
    model.vit.embeddings.forward = lambda *_, **__: 1 / 0
    structure = describe(model, order=order)
    assert structure.params == describe(tiny()).params
    assert (structure.cost, structure.input_shape, structure.output_shape) == (Cost(), None, None)
    assert "vit.layers.1.mlp.fc1" in structure.not_counted
    assert not any("never calls" in row.text for row in structure.rows)


@pytest.mark.parametrize("order", ["module", "execution"])
def test_a_layer_that_is_used_twice_costs_twice_and_weighs_once(order: Any) -> None:
    model = tiny(2)
    cost, layer = describe(model).cost, sum(p.numel() for p in model.vit.layers[1].parameters())
    params = sum(p.numel() for p in model.parameters())
    model.vit.layers[1] = model.vit.layers[0]
    structure = describe(model, order=order, all_layers=True)
    assert structure.cost == cost
    assert sums(structure) == (params - layer, cost.macs, cost.activations_timm)
    assert any("same module as vit.layers.0" in row.text for row in structure.rows)


def test_a_tree_of_names_alone_is_known() -> None:
    modules: dict[str, nn.Module] = {}
    for path, kind in listing("4.45"):
        modules[path] = type(kind, (nn.Module,), {})()
        if path:
            modules[path.rpartition(".")[0]].add_module(path.rpartition(".")[2], modules[path])
    structure = describe(modules[""])
    assert [row.path for row in structure.rows if row.role is None] == []
    assert (structure.params, structure.input_shape) == (0, None)
    assert "softmax" in str(structure)


def test_another_models_classifier_is_not_explained() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layernorm = nn.LayerNorm(4)
            self.classifier = nn.Linear(4, 2)

    assert [row.role for row in describe(Other()).rows] == [None, None, None]


def test_a_subclass_keeps_its_role() -> None:
    class Mine(ViTForImageClassification):
        pass

    structure = describe(Mine(tiny().config))
    assert [row.path for row in structure.rows if row.role is None] == []
    assert structure.class_name == "Mine"


def test_a_model_without_a_head() -> None:
    structure = describe(tiny(num_labels=0))
    assert structure.rows[-1].inert
    assert sums(structure)[0] == structure.params


def test_shared_parameters_count_once() -> None:
    model = tiny()
    model.vit.layers[1].mlp.fc1.weight = model.vit.layers[0].mlp.fc1.weight
    structure = describe(model)
    assert structure.params == sum(parameter.numel() for parameter in model.parameters())
    assert sums(structure)[0] == structure.params


def test_inert_modules() -> None:
    rows = describe(tiny()).rows
    assert {row.role for row in rows if row.inert} == {"embedding_dropout", "layer_dropout"}
    assert all("does nothing" in row.brief for row in rows if row.inert)
    assert not any(row.inert for row in describe(tiny(hidden_dropout_prob=0.1)).rows)


# Bad input


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(num_hidden_layers=3000),
        ViTConfig(hidden_size=10**6),
        ViTConfig(num_attention_heads=7),
        ViTConfig(image_size=4096, patch_size=1),
        BertConfig(),
    ],
)
def test_a_config_beyond_bounds_is_one_line(config: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        describe(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ['{"model_type": "vit", "num_hidden_layers": 3000}', '{"model_type": "bert"}', "[]", "{"]
)
def test_a_folder_with_a_bad_config_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        describe(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("demo", {"lang": "fr"}),
        ("demo", {"order": "random"}),
        ("demo", {"depth": -1}),
        ("demo", {"depth": True}),
        (42, {}),
        (tiny(), {"revision": "v1"}),
    ],
)
def test_bad_arguments(model: Any, how: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        describe(model, **how)
