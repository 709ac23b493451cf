"""The explanations: both languages for every role, and a role for every module of every version."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from tiny import to_checkpoint_key
from vit_trees import VERSIONS, listing

from vit_pipeline.roles import LANGUAGES, ROLES, TEXTS, find_role, older_paths


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_role_has_a_brief_that_fits_and_a_whole_sentence(lang: str) -> None:
    assert TEXTS[lang].keys() == {*ROLES, "unknown"}
    for key, (brief, text) in TEXTS[lang].items():
        assert 0 < cell_len(brief) <= 31, key
        assert text.endswith("." if lang == "en" else "。"), key
        assert cell_len(text) > cell_len(brief), key


def test_the_two_languages_are_two_languages() -> None:
    for key, (_, text) in TEXTS["zh"].items():
        assert any("一" <= char <= "鿿" for char in text), key
        assert not any("一" <= char <= "鿿" for char in TEXTS["en"][key][1]), key


@pytest.mark.parametrize("version", VERSIONS)
def test_every_module_of_every_version_has_a_role(version: str) -> None:
    for path, kind in listing(version):
        assert find_role(path, kind) is not None, path


@pytest.mark.parametrize("version", VERSIONS)
def test_dropouts_and_dense_layers_are_told_apart_by_their_full_path(version: str) -> None:
    roles = {path: find_role(path, kind) for path, kind in listing(version)}
    keys = {path: role.key for path, role in roles.items() if role}
    if version == "5.9":
        assert keys["vit.layers.1.dropout"] == "layer_dropout"
        assert keys["vit.layers.1.attention.o_proj"] == "attention_dense"
        assert keys["vit.layers.1.mlp"] == "mlp"
    else:
        assert keys["vit.encoder.layer.1.attention.output.dropout"] == "attention_output_dropout"
        assert keys["vit.encoder.layer.1.output.dropout"] == "mlp_dropout"
        assert keys["vit.encoder.layer.1.attention.output.dense"] == "attention_dense"
        assert keys["vit.encoder.layer.1.output.dense"] == "fc2"
        assert keys["vit.encoder.layer.1.intermediate.dense"] == "fc1"
    assert keys["vit.embeddings.dropout"] == "embedding_dropout"


@pytest.mark.parametrize(
    ("path", "kind", "parent_known"),
    [
        ("vit.layers.0.adapter", "Linear", True),  # a name that no version has
        ("vit.layers.0.dropout", "Linear", True),  # a name it has, of another class
        ("adapter.q_proj", "Linear", True),
        ("tower.layers.0.attention.q_proj", "Linear", False),  # below something unknown
        ("q_proj", "Linear", True),
        ("vit.layers.x.mlp", "ViTMLP", True),
    ],
)
def test_what_no_rule_knows_is_not_guessed(path: str, kind: str, parent_known: bool) -> None:
    assert find_role(path, kind, parent_known) is None


def test_names_in_the_other_versions() -> None:
    query = ROLES["query"]
    old, live = "vit.encoder.layer.11.attention.attention.query", "vit.layers.11.attention.q_proj"
    assert older_paths(query, live) == (old,)
    assert older_paths(query, old) == (old,)
    assert older_paths(ROLES["mlp"], "layers.2.mlp") == (
        "encoder.layer.2.intermediate",
        "encoder.layer.2.output",
    )


def test_older_names_are_those_of_checkpoint_files() -> None:
    for path, kind in listing("5.9"):
        role = find_role(path, kind)
        assert role is not None
        if kind in ("Linear", "LayerNorm", "Conv2d"):
            assert older_paths(role, path) == (to_checkpoint_key(path),)


def test_pre_ln_is_told_as_it_is() -> None:
    # the norms stand before attention and before the MLP, not before and after the layer
    assert "before attention reads it" in TEXTS["en"]["layernorm_before"][1]
    assert "before the MLP reads it" in TEXTS["en"]["layernorm_after"][1]
    assert ROLES["layernorm_before"].equation == "2"
    assert ROLES["layernorm_after"].equation == "3"


def test_roles_stand_in_the_order_of_the_data() -> None:
    keys = list(ROLES)
    flow = (
        "cls_token layernorm_before query attention_core residual_attention layernorm_after fc1 fc2 take_cls"
    )
    places = [keys.index(key) for key in flow.split()]
    assert places == sorted(places)
