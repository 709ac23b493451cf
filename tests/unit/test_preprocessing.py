from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from make_timm import formula_image, timm_config
from PIL import Image
from transformers import ViTImageProcessorPil

from vit_pipeline import ViTPipeline
from vit_pipeline.checkpoints.processors import TimmImageProcessor, to_pixel_values
from vit_pipeline.checkpoints.timm import to_processor_config
from vit_pipeline.errors import ImageError

SIZES = [(640, 480), (301, 1000), (224, 224), (225, 224), (31, 17), (1, 1), (1, 300), (500, 2)]
SQUASH = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "processor",
    [
        *(ViTImageProcessorPil(size={"height": 224, "width": 224}, resample=r, **SQUASH) for r in range(6)),
        ViTImageProcessorPil(size={"height": 32, "width": 48}, **SQUASH),
        ViTImageProcessorPil(size={"height": 32, "width": 32}, do_resize=False, **SQUASH),
        ViTImageProcessorPil(
            size={"shortest_edge": 40}, do_center_crop=True, crop_size={"height": 32, "width": 32}, **SQUASH
        ),
        TimmImageProcessor(**to_processor_config(timm_config("vit_tiny_patch16_224"), "it")),
    ],
    ids=lambda processor: type(processor).__name__,
)
def test_equal_to_the_processor_alone(processor: ViTImageProcessorPil) -> None:
    for width, height in SIZES:
        image = formula_image(width, height)
        expected = processor(images=image, return_tensors="pt").pixel_values[0]
        assert torch.equal(to_pixel_values(processor, image), expected)


def test_a_longest_edge_is_left_to_the_processor() -> None:
    processor = ViTImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 40}, **SQUASH)
    image = formula_image(100, 30)
    expected = processor(images=image, return_tensors="pt").pixel_values[0]
    assert expected.shape[-1] == 40
    assert torch.equal(to_pixel_values(processor, image), expected)


def test_what_cannot_be_resized_names_the_image() -> None:
    processor = TimmImageProcessor(**to_processor_config(timm_config("vit_tiny_patch16_224"), "it"))
    with pytest.raises(ImageError, match=r"long\.png: an image of 60000×1 pixels is too long"):
        to_pixel_values(processor, Image.new("RGB", (60_000, 1)), "long.png")
    edge = ViTImageProcessorPil(size={"shortest_edge": 40}, **SQUASH)
    with pytest.raises(ImageError, match="too long and narrow"):
        to_pixel_values(edge, Image.new("RGB", (1, 200_000)))


def test_an_image_that_cannot_be_resized_does_not_lose_the_others() -> None:
    pipe = ViTPipeline.from_pretrained(Path(__file__).parents[1] / "golden" / "timm_vit_small_mini")
    image = Image.new("RGB", (300, 200), "red")
    results = pipe([image, Image.new("RGB", (60_000, 1)), image], on_error="return")
    assert isinstance(results[1], ImageError)
    assert results[0] == results[2]
    array = np.asarray(image)
    assert pipe(array).label == results[0].label
