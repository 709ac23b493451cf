"""Whatever a checkpoint's files hold: checked values, or a CheckpointError."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import ViTForImageClassification

from vit_pipeline import loading
from vit_pipeline.checkpoints import config, files, processors, timm
from vit_pipeline.checkpoints import tensors as ckpt
from vit_pipeline.errors import CheckpointError

EXAMPLES = int(os.environ.get("VIT_PIPELINE_FUZZ_EXAMPLES", "60"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TESTS = Path(__file__).parents[1]
GOOD = json.loads((TESTS.parent / "vit_pipeline" / "demo_model" / "config.json").read_text())
PREPROCESSING = json.loads(
    (TESTS.parent / "vit_pipeline" / "demo_model" / "preprocessor_config.json").read_text()
)
TIMM = json.loads((TESTS / "golden" / "timm_vit_small_mini" / "config.json").read_text())
WEIGHTS = (TESTS / "golden" / "timm_vit_small_mini" / "model.safetensors").read_bytes()

VIT = config.check_config(GOOD, "demo")
MODEL = ViTForImageClassification(VIT).eval()

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


def changed(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The good one with some values replaced, and perhaps some strange keys."""
    keys = st.sampled_from(sorted(good)) | st.text(max_size=6)
    return st.dictionaries(keys, values, max_size=4).map(lambda changes: {**good, **changes})


@fuzz
@given(changed(GOOD))
def test_configs(raw: dict[str, Any]) -> None:
    try:
        checked = config.check_config(raw, "it")
    except CheckpointError as error:
        assert str(error).startswith("it: config.json")
        assert str(error).isprintable()
        return
    assert 1 <= checked.num_hidden_layers <= 128
    assert list(checked.id2label) == list(range(checked.num_labels))
    assert config.num_tokens(checked) <= config.MAX_TOKENS
    config.ignored_settings(raw, checked)
    try:
        ckpt.match({}, checked, "it")  # builds the model
    except CheckpointError as error:
        assert str(error).startswith("it: ")


@fuzz
@given(changed(PREPROCESSING))
def test_preprocessing(raw: dict[str, Any]) -> None:
    try:
        processor = processors.make_processor(raw, VIT, "it")
        loading.check_pair(MODEL, processor, "it")
    except CheckpointError as error:
        assert str(error).startswith("it: ")


@fuzz
@given(changed(TIMM) | changed(TIMM["pretrained_cfg"]).map(lambda cfg: {**TIMM, "pretrained_cfg": cfg}))
def test_timm_configs(raw: dict[str, Any]) -> None:
    if timm.is_timm_config(raw):
        try:
            config.check_config(timm.to_transformers_config(raw, "it"), "it")
            processors.check_settings(timm.to_processor_config(raw, "it"), "it", 1024)
        except CheckpointError as error:
            assert str(error).startswith("it: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@fuzz
@given(st.data())
def test_weights_with_changed_bytes(path: Path, data: st.DataObject) -> None:
    header = 8 + struct.unpack("<Q", WEIGHTS[:8])[0]
    content = bytearray(WEIGHTS)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    try:
        shapes = ckpt.read_weights([path], "it")
    except CheckpointError as error:
        assert str(error).isprintable()
    else:
        assert len(shapes) > 0


@fuzz
@given(
    st.binary(max_size=200)
    | st.recursive(scalars, lambda x: st.lists(x)).map(lambda x: json.dumps(x).encode())
)
def test_json_files(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        assert isinstance(files.read_json(path, "it"), dict)
    except CheckpointError as error:
        assert str(error).isprintable()
