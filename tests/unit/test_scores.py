"""Scores, not only logits, equal ``transformers.pipeline("image-classification")`` with the PIL processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import change_json, make_checkpoint
from transformers import (
    AutoImageProcessor,
    BitImageProcessorPil,
    DeiTImageProcessorPil,
    ViTForImageClassification,
    ViTImageProcessorPil,
    pipeline,
)

from vit_pipeline import ViTPipeline

pytestmark = pytest.mark.slow

PHOTOS = sorted((Path(__file__).parents[2] / "examples").glob("*.[pj][np]g"))[:3]
MULTI = {"problem_type": "multi_label_classification"}
HEADS: dict[str, tuple[int, dict[str, Any]]] = {
    "one": (1, {}),
    "one-regression": (1, {"problem_type": "regression"}),
    "two": (2, {}),
    "two-regression": (2, {"problem_type": "regression"}),
    "five": (5, {}),
    "five-multi": (5, MULTI),
    "five-apply": (5, {"function_to_apply": "sigmoid"}),
}
SIDES = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.5, 0.2]}
EDGE = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}, "do_center_crop": True}
PROCESSORS = {
    "squash": ViTImageProcessorPil(size={"height": 16, "width": 16}, resample=2, **SIDES),
    "edge": BitImageProcessorPil(resample=3, **EDGE, **SIDES),
    "deit": DeiTImageProcessorPil(
        size={"height": 20, "width": 20}, crop_size={"height": 16, "width": 16}, do_center_crop=True, **SIDES
    ),
}


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("layout", ["safetensors", "sharded", "bin"])
@pytest.mark.parametrize("head", HEADS)
def test_scores_are_transformers(tmp_path: Path, head: str, layout: str, processor: str) -> None:
    labels, changes = HEADS[head]
    folder = make_checkpoint(tmp_path / "model", labels=labels)
    change_json(folder / "config.json", **changes)
    PROCESSORS[processor].save_pretrained(folder)
    model = ViTForImageClassification.from_pretrained(folder)
    if layout != "safetensors":
        (folder / "model.safetensors").unlink()
    if layout == "sharded":
        config = (folder / "config.json").read_text()
        model.save_pretrained(folder, max_shard_size="20KB")
        (folder / "config.json").write_text(config)
        assert len(list(folder.glob("model-*.safetensors"))) > 1
    elif layout == "bin":
        torch.save(dict(model.state_dict()), folder / "pytorch_model.bin")
    theirs = pipeline(
        "image-classification",
        model=ViTForImageClassification.from_pretrained(folder),
        image_processor=AutoImageProcessor.from_pretrained(folder, use_fast=False),
        device="cpu",
    )
    pipe = ViTPipeline.from_pretrained(folder, device="cpu")
    for photo in PHOTOS:
        expected = theirs(str(photo), top_k=labels)
        ours = pipe(photo, top_k=labels).top
        assert [entry.label for entry in ours] == [entry["label"] for entry in expected]
        assert [entry.score for entry in ours] == pytest.approx(
            [entry["score"] for entry in expected], abs=1e-6
        ), json.dumps(expected)
