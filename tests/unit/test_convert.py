from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Run
from make_timm import timm_config, write_timm
from safetensors.torch import load_file
from tiny import SIZES, make_checkpoint, to_checkpoint_key
from transformers import (
    AutoImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from vit_pipeline import ViTPipeline, loading
from vit_pipeline.convert import convert
from vit_pipeline.errors import OutputError

TESTS = Path(__file__).parents[1]
PHOTOS = [TESTS.parent / "examples" / name for name in ("cat.png", "coffee.png", "astronaut.png")]
GOLDEN = TESTS / "golden" / "timm_vit_small_mini"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(GOLDEN, tmp_path_factory.mktemp("converted") / "small")


def test_plain_transformers_gives_the_same_logits(folder: Path) -> None:
    ours = ViTPipeline.from_pretrained(GOLDEN, device="cpu")
    model = ViTForImageClassification.from_pretrained(folder).eval()
    processor = ViTImageProcessorPil.from_pretrained(folder)
    images = [ours.read(path) for path in PHOTOS]
    inputs = processor(images=images, return_tensors="pt")
    assert torch.equal(inputs.pixel_values, ours.preprocess(images))
    with torch.inference_mode():
        logits = model(**inputs).logits
    assert (logits - ours.forward(ours.preprocess(images))).abs().max() == 0
    assert model.config.id2label == dict(enumerate(ours.labels))
    assert model.config.layer_norm_eps == 1e-6
    names = {to_checkpoint_key(name) for name in model.state_dict()}  # transformers ≤ 5.8 reads it, too
    assert set(load_file(folder / "model.safetensors")) == names
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_our_pipeline_keeps_timms_crop_of_every_image(folder: Path) -> None:
    before, after = ViTPipeline.from_pretrained(GOLDEN), ViTPipeline.from_pretrained(folder)
    rocket = PHOTOS[0].with_name("rocket.jpg")  # 147 pixels more than the crop: timm and transformers differ
    image = before.read(rocket)
    assert torch.equal(before.preprocess(image), after.preprocess(image))
    plain = ViTImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt").pixel_values
    assert torch.equal(plain[..., 1:], before.preprocess(image)[..., :-1])  # the one pixel


def test_the_auto_class_finds_the_processor(folder: Path) -> None:
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert isinstance(processor, ViTImageProcessorPil)


def test_other_layouts_and_architectures(tmp_path: Path) -> None:
    tiny = make_checkpoint(tmp_path / "tiny")
    wide = write_timm(tmp_path / "timm", timm_config("vit_tiny_patch16_384", 3, depth=1))
    for source in (tiny, wide):
        target = convert(source, tmp_path / "new" / source.name)
        pipe = ViTPipeline.from_pretrained(source, device="cpu")
        model = ViTForImageClassification.from_pretrained(target).eval()
        pixel_values = pipe.preprocess([pipe.read(path) for path in PHOTOS])
        with torch.inference_mode():
            assert (model(pixel_values).logits - pipe.forward(pixel_values)).abs().max() == 0


def test_a_backbone_stays_a_backbone(tmp_path: Path) -> None:
    plain = ViTModel(ViTConfig(**SIZES)).eval()
    plain.save_pretrained(tmp_path / "dino")
    source, target = (
        loading.load(tmp_path / "dino"),
        loading.load(convert(tmp_path / "dino", tmp_path / "new")),
    )
    pixels = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        expected = plain(pixels)
        for loaded in (source, target):
            assert loading.class_names(loaded.model) == ()
            assert torch.equal(loaded.model(pixels).last_hidden_state, expected.last_hidden_state)
            assert torch.equal(loaded.model(pixels).pooler_output, expected.pooler_output)


def test_what_is_there_is_left_alone(tmp_path: Path, run: Run) -> None:
    tiny = make_checkpoint(tmp_path / "tiny")
    with pytest.raises(OutputError, match="not empty"):
        convert(tiny, tiny)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        convert(tiny, tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        convert(tiny, tmp_path / "file" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tiny"]
    (tmp_path / "empty").mkdir()
    code, out, _ = run("convert", tiny, tmp_path / "empty")
    assert (code, out) == (0, f"{tmp_path / 'empty'}\n")
    assert (tmp_path / "empty" / "model.safetensors").is_file()
