from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vit_pipeline.checkpoints.config import check_config, ignored_settings, num_tokens
from vit_pipeline.checkpoints.files import read_json
from vit_pipeline.checkpoints.processors import check_settings
from vit_pipeline.errors import CheckpointError

GOOD: dict[str, Any] = {
    "model_type": "vit",
    "hidden_size": 24,
    "num_attention_heads": 3,
    "id2label": {"0": "cat", "1": "dog", "2": "cow"},
    "label2id": {"cat": 0, "dog": 1, "cow": 2},
    "torch_dtype": "float32",
    "_name_or_path": "somewhere",
}


def test_a_good_config_becomes_a_vit_config_with_labels_in_order() -> None:
    config = check_config(GOOD, "it")
    assert list(config.id2label.items()) == [(0, "cat"), (1, "dog"), (2, "cow")]
    assert (config.hidden_size, config.num_hidden_layers, config.layer_norm_eps) == (24, 12, 1e-12)
    assert config.dtype is None
    assert num_tokens(config) == 14 * 14 + 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "bert"}, "not a ViT"),
        ({"model_type": None}, "not a ViT"),
        ({"model_type": None, "architectures": ["SwinForImageClassification"]}, "Swin"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"quantization_config": {}}, "quantization_config"),
        ({"head_dim": 10**9}, "head_dim"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"num_hidden_layers": 3000}, "num_hidden_layers 3000; allowed: 1 to 128"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"hidden_size": 10**9}, "hidden_size"),
        ({"hidden_size": "24"}, "hidden_size"),
        ({"hidden_size": 25}, "3 heads do not divide"),
        ({"intermediate_size": -1}, "intermediate_size"),
        ({"image_size": [224]}, "image_size"),
        ({"image_size": [224, 224, 224]}, "image_size"),
        ({"image_size": {"height": 224}}, "image_size"),
        ({"image_size": 100_000}, "image_size"),
        ({"image_size": [224, 10**6]}, "image_size"),
        ({"image_size": 4096, "patch_size": 1}, "tokens"),
        ({"image_size": 8, "patch_size": 16}, "allowed: 2 to"),
        ({"num_channels": 1}, "num_channels 1; allowed: 3"),
        ({"hidden_act": "os.system"}, "hidden_act"),
        ({"hidden_act": None}, "hidden_act"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps"),
        ({"layer_norm_eps": -1e-6}, "layer_norm_eps"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob"),
        ({"qkv_bias": "yes"}, "qkv_bias"),
        ({"id2label": {"0": "cat", "2": "cow", "3": "dog"}}, "none for class 1"),
        ({"id2label": {"a": "cat"}}, "not numbers"),
        ({"id2label": {}}, "1 to 100,000"),
        ({"id2label": ["cat", "dog"]}, "1 to 100,000"),
        ({"id2label": {"0": "cat", "1": None, "2": "cow"}}, "class 1"),
        ({"id2label": None, "num_labels": 10**9}, "num_labels"),
        ({"id2label": None, "num_labels": -1}, "num_labels"),
        ({"id2label": None, "num_labels": "5"}, "num_labels"),
        (
            {"id2label": {"0": "a"}, "problem_type": "single_label_classification"},
            "num_labels",
        ),
    ],
)
def test_what_cannot_be_is_rejected_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        check_config(GOOD | changes, "acme/tiny")
    assert str(caught.value).startswith("acme/tiny: config.json ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_only_what_vit_reads_is_passed_on() -> None:
    harmful = {
        "return_dict": False,
        "attn_implementation": "some/kernel",
        "to_dict": 1,
        "output_attentions": True,
    }
    config = check_config(GOOD | harmful, "it")
    assert config.return_dict
    assert config._attn_implementation is None
    assert config.to_dict()["hidden_size"] == 24
    assert check_config(GOOD | {"function_to_apply": "none"}, "it").function_to_apply == "none"
    for key, value in (("problem_type", "regression"), ("problem_type", "multi_label_classification")):
        assert getattr(check_config(GOOD | {key: value}, "it"), key) == value


def test_what_is_ignored_has_no_list_of_its_own() -> None:
    old = {
        "use_cache": True,
        "top_k": 50,
        "is_decoder": False,
        "transformers_version": "4.9",
        "_x": 1,
        "dtype": "x",
    }
    old |= {"attn_implementation": "eager", "torch_dtype": "float16", "function_to_apply": "none"}
    assert ignored_settings(GOOD | old, check_config(GOOD | old, "it")) == []
    new = {"license": "mit", "rotation": 3, "padding": None, "use_mean": False}
    assert ignored_settings(GOOD | new, check_config(GOOD | new, "it")) == ["license", "rotation"]


def test_a_class_name_that_stands_twice_is_no_contradiction() -> None:
    """ImageNet has two classes named "crane"; label2id can hold only one of them."""
    names = {"0": "crane", "1": "dog", "2": "crane"}
    assert (
        check_config(GOOD | {"id2label": names, "label2id": {"dog": 1, "crane": 2}}, "it").id2label[0]
        == "crane"
    )


def test_numbers_may_be_numbers_or_text() -> None:
    for key in (int, str):
        names = {key(index): label for index, label in enumerate(("cat", "dog", "cow"))}
        ids = {"cat": key(0), "dog": key(1), "cow": key(2)}
        assert check_config(GOOD | {"id2label": names, "label2id": ids}, "it").label2id["cow"] == 2


def test_default_label2id_beside_real_names_is_ignored() -> None:
    config = check_config(GOOD | {"label2id": {"LABEL_0": 0, "LABEL_1": 1}}, "it")
    assert config.label2id == {"cat": 0, "dog": 1, "cow": 2}


def test_read_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, says in (
        ("{", "not a JSON object"),
        ("[1]", "it holds a list"),
        ("[" * 100_000, "not a JSON object"),
        ("\x00\xff", "not a JSON object"),
        (" " * (16 * 2**20 + 1), "larger than 16 MiB"),
    ):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(CheckpointError, match=says):
            read_json(path, "it")
    with pytest.raises(CheckpointError, match="is missing"):
        read_json(tmp_path / "none.json", "it")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 10**6}, "size 1000000"),
        ({"size": True}, "size True"),
        ({"size": [224, 5000]}, "size"),
        ({"size": {"height": 0, "width": 224}}, "size"),
        ({"size": {"shortest_edge": 4096}}, "allowed: 1 to 1,024 pixels for this model"),
        ({"crop_size": {"height": "2", "width": 2}}, "crop_size"),
        ({"pad_size": {"height": 10**5, "width": 2}}, "pad_size"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std"),
        ({"image_std": 0}, "image_std"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_mean": [0.5, 0.5, float("inf")]}, "image_mean"),
        ({"image_mean": "0.5"}, "image_mean"),
        ({"resample": 9}, "resample"),
        ({"resample": "bicubic"}, "resample"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"auto_map": {"AutoImageProcessor": "m.M"}}, "auto_map"),
    ],
)
def test_odd_preprocessing_is_rejected(changes: dict[str, Any], says: str) -> None:
    good = {"size": 224, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    check_settings(good, "it", 1024)
    check_settings(
        {"size": [224, 224], "image_mean": 0.5, "rescale_factor": 1 / 255, "crop_size": None}, "it", 1024
    )
    with pytest.raises(CheckpointError, match=says):
        check_settings(good | changes, "it", 1024)
