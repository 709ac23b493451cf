from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run
from hub_server import HubServer
from tiny import change_json, make_checkpoint

from vit_pipeline.card import describe_preprocessing, model_card
from vit_pipeline.errors import ModelNameError
from vit_pipeline.structure import describe

GOLDEN = Path(__file__).parents[1] / "golden" / "timm_vit_small_mini"


def test_vit_small_before_anything_is_downloaded(hub: HubServer, run: Run) -> None:
    card = model_card("vit-small")
    assert card.parameters == 22_050_664
    assert (round(card.cost.macs / 1e9, 3), round(card.cost.macs_timm / 1e9, 3)) == (4.599, 4.251)
    assert (round(card.cost.activations / 1e6, 2), round(card.cost.activations_timm / 1e6, 2)) == (
        11.95,
        8.25,
    )
    assert (card.input_shape, card.classes, card.on_disk) == ((1, 3, 224, 224), 1000, None)
    code, out, _ = run("models", "vit-small")
    assert code == 0
    for words in (
        "22,050,664",
        "4.599",
        "4.251",
        "81.402",
        "timm results-imagenet.csv",
        "not downloaded",
        "248",
    ):
        assert words in out
    assert hub.requests == []


def test_a_cards_preprocessing_is_read_from_its_files(run: Run) -> None:
    card = model_card(GOLDEN)
    assert card.preprocessing == "resize short side to 248 (bicubic), centre crop 224×224, mean 0.5, std 0.5"
    assert card.classes == 16
    assert card.on_disk == sum(path.stat().st_size for path in GOLDEN.iterdir())
    record = json.loads(run("models", "demo", "--json")[1])
    assert record["parameters"] == 2_693_578
    assert record["preprocessing"] == "resize to 32×32 (bicubic), mean 0.5, std 0.5"
    assert "10 classes" in record["published"]["summary"]
    with pytest.raises(ModelNameError):
        model_card("vit-huge")


def test_preprocessing_in_words() -> None:
    assert (
        describe_preprocessing({"size": 224, "image_mean": [0.1, 0.2, 0.3]})
        == "resize to 224×224 (bilinear), mean 0.1 0.2 0.3"
    )
    assert describe_preprocessing({"do_resize": False}) == ""
    cropped = {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 16, "image_mean": 0.5}
    words = "resize short side to 20 (bilinear), centre crop 16×16, mean 0.5"
    assert describe_preprocessing(cropped) == words


@pytest.mark.parametrize("architecture", ["ViTModel", "ViTMAEForPreTraining"])
def test_a_backbone_has_no_classes(tmp_path: Path, architecture: str) -> None:
    make_checkpoint(tmp_path)
    classifier = model_card(tmp_path)
    assert classifier.classes > 0
    width = json.loads((tmp_path / "config.json").read_text())["hidden_size"]
    change_json(tmp_path / "config.json", architectures=[architecture])
    card = model_card(tmp_path)
    assert card.classes == 0
    assert card.parameters == classifier.parameters - classifier.classes * (width + 1)
    assert "no classes" in str(card)
    structure = describe(tmp_path)
    assert structure.class_name == "ViTModel"
    assert "classifier" not in {row.role for row in structure.rows}


@pytest.mark.slow
def test_a_card_says_what_is_not_known(run: Run) -> None:
    assert "SHA-256        not known to this package" in str(model_card("vit-base"))
    assert json.loads(run("models", "vit-base", "--json")[1])["published"]["sha256"] == {}
    said = str(model_card("demo"))
    assert not any(word in said for word in ("SHA-256", "revision", "None"))
    assert "top-1          83.91 % on CIFAR-10" in said
    card = model_card("vit-base")
    for one in (card, replace(card, preprocessing="none")):
        assert str(one).count("preprocessing") == 1
