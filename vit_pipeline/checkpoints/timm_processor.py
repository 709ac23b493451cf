"""timm's evaluation recipe as an image processor, equal to timm to the pixel.

timm resizes with Pillow and crops as torchvision does, which rounds half a pixel of the crop's offset to the
even one. Hugging Face's processors round it down: they cut one pixel further to the left (or the top) where
the resized image is wider (higher) than the crop by 4k + 3 pixels, and are equal everywhere else. Leaves
out: what the config says about the model (``timm_config``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from ..errors import CheckpointError, ImageError
from .timm_config import read_timm_config, unsupported

#: by this, a ``preprocessor_config.json`` asks for torchvision's offset; plain transformers ignores it
CENTER_CROP_OFFSET = {"center_crop_offset": "round"}
MAX_RESIZED_PIXELS = 150_000_000  # 600 MB in Pillow: an image of one pixel by 2,400 on its way to 224
_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # timm's names are Pillow's
# What timm takes where pretrained_cfg is silent: ImageNet's mean and deviation, as in its constants.
_DEFAULTS: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
}


def to_processor_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """timm's recipe as a ``preprocessor_config.json``, for :class:`TimmImageProcessor`.

    Plain transformers reads it too, as a ViTImageProcessor, and then rounds the crop's offset down.

    Raises:
        CheckpointError: a recipe that cannot be expressed, or a value that is none.
    """
    timm = read_timm_config(config, where)
    recipe = {name: timm.pretrained.get(name) or default for name, default in _DEFAULTS.items()}
    crop_pct, mode, interpolation = recipe["crop_pct"], recipe["crop_mode"], recipe["interpolation"]
    if mode not in ("center", "squash"):
        raise unsupported(where, f"crop_mode {mode!r}", "only 'center' and 'squash' are")
    if interpolation not in _FILTERS:
        raise unsupported(where, f"interpolation {interpolation!r}", f"only {', '.join(_FILTERS)} are")
    if isinstance(crop_pct, bool) or not isinstance(crop_pct, int | float) or not 0.1 <= crop_pct <= 2:
        raise CheckpointError(f"{where}: config.json has crop_pct {crop_pct!r}; allowed: 0.1 to 2")
    for name in ("mean", "std"):
        if not _three_numbers(recipe[name]) or (name == "std" and min(recipe[name]) <= 0):
            raise CheckpointError(f"{where}: config.json has {name} {recipe[name]!r}; it needs three numbers")
    edge = math.floor(timm.img_size / crop_pct)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": edge} if mode == "center" else {"height": edge, "width": edge},
        "resample": int(Image.Resampling[interpolation.upper()]),
        "do_center_crop": True,
        "crop_size": {"height": timm.img_size, "width": timm.img_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(recipe["mean"]),
        "image_std": list(recipe["std"]),
        **CENTER_CROP_OFFSET,
    }


class TimmImageProcessor(ViTImageProcessorPil):  # type: ignore[misc] # untyped base
    """ViTImageProcessor with torchvision's centre crop; takes 8-bit RGB images.

    Saved, it is a ``ViTImageProcessor`` that plain transformers loads.
    """

    def _preprocess(
        self,
        images: list[np.ndarray],
        do_resize: bool,
        size: Any,
        resample: Any,
        do_center_crop: bool,
        crop_size: Any,
        **kwargs: Any,
    ) -> Any:
        cropped = []
        for array in images:  # (3, H, W) uint8
            if array.dtype != np.uint8 or array.shape[0] != 3:
                raise ImageError(f"an array {array.shape} of {array.dtype}: give an image of 3 × 8 bits")
            image = Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
            resized = resized_size(image.size, size) if do_resize else image.size
            crop = (crop_size.width, crop_size.height) if do_center_crop else resized
            if do_resize or do_center_crop:
                image = resize_and_crop(image, resized, crop, resample)
            cropped.append(np.array(image).transpose(2, 0, 1))
        return super()._preprocess(
            cropped,
            do_resize=False,
            size=size,
            resample=resample,
            do_center_crop=False,
            crop_size=crop_size,
            **kwargs,
        )

    def resize_and_crop(self, image: Image.Image) -> Image.Image:
        """The crop of an RGB image that the model sees, as its recipe says."""
        resized = resized_size(image.size, self.size)
        return resize_and_crop(image, resized, (self.crop_size.width, self.crop_size.height), self.resample)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "image_processor_type": "ViTImageProcessor", **CENTER_CROP_OFFSET}


def resized_size(image: tuple[int, int], size: Any) -> tuple[int, int]:
    """(width, height) after torchvision's Resize, from ``shortest_edge`` or ``height`` and ``width``."""
    if not size.shortest_edge:
        return size.width, size.height
    width, height = image
    long = int(size.shortest_edge * max(width, height) / min(width, height))
    return (size.shortest_edge, long) if width <= height else (long, size.shortest_edge)


def check_resized(image: tuple[int, int], resized: tuple[int, int]) -> None:
    """ImageError for a long, narrow image that would become huge on its way to the crop; sizes (W, H)."""
    if resized[0] * resized[1] > MAX_RESIZED_PIXELS:
        raise ImageError(
            f"an image of {image[0]}×{image[1]} pixels is too long and narrow: it would become "
            f"{resized[0]:,}×{resized[1]:,} before the crop; crop it first"
        )


def resize_and_crop(
    image: Image.Image, resized: tuple[int, int], crop: tuple[int, int], resample: int
) -> Image.Image:
    """The centre ``crop`` of the image resized to ``resized``, black where that is smaller; sizes (W, H).

    Raises:
        ImageError: the resized image would have more than ``MAX_RESIZED_PIXELS``.
    """
    (width, height), (crop_width, crop_height) = resized, crop
    check_resized(image.size, resized)
    left, top = _offset(width, crop_width), _offset(height, crop_height)
    # The whole image, as timm does: Pillow chooses by the sizes which side it filters first, and rounds.
    whole = image.resize(resized, resample)
    return whole.crop((left, top, left + crop_width, top + crop_height))


def _offset(length: int, crop: int) -> int:
    """Where torchvision's CenterCrop starts; below 0 where it pads a smaller image, at the end the more."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


def _three_numbers(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    )
