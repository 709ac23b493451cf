"""timm's evaluation preprocessing as an image processor, equal to timm to the pixel.

timm resizes with Pillow and crops as torchvision does, which rounds half a pixel of the crop's offset to the
even one. transformers' processors round it down: they cut one pixel further to the left (or the top) where
the resized image is wider (higher) than the crop by 4k + 3 pixels, and are equal everywhere else. Leaves out:
what the config says about the model (``timm_checkpoint``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from transformers import ViTImageProcessorPil

from ..errors import CheckpointError, ImageError
from .files import RULES
from .timm_checkpoint import read_timm_config, unsupported

#: by this, a ``preprocessor_config.json`` asks for torchvision's offset; plain transformers ignores it
CENTER_CROP_OFFSET = {"center_crop_offset": "round"}
MAX_RESIZED_PIXELS = 150_000_000  # 600 MB in Pillow: an image of one pixel by 2,400 on its way to 224
_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # timm's names are Pillow's


def to_processor_config(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """timm's preprocessing as a ``preprocessor_config.json``, for :class:`TimmImageProcessor`.

    Plain transformers reads it too, as a ViTImageProcessor, and then rounds the crop's offset down. Raises
    CheckpointError for what cannot be expressed; numbers are checked where the processor is made.
    """
    sizes, pretrained = read_timm_config(config, where)
    settings = RULES["timm"]["preprocessing"] | {key: value for key, value in pretrained.items() if value}
    crop_pct, mode, interpolation = settings["crop_pct"], settings["crop_mode"], settings["interpolation"]
    if mode not in ("center", "squash"):
        raise unsupported(where, f"crop_mode {mode!r}", "only 'center' and 'squash' are")
    if interpolation not in _FILTERS:
        raise unsupported(where, f"interpolation {interpolation!r}", f"only {', '.join(_FILTERS)} are")
    if isinstance(crop_pct, bool) or not isinstance(crop_pct, int | float) or not 0.1 <= crop_pct <= 2:
        raise CheckpointError(f"{where}: config.json has crop_pct {crop_pct!r}; allowed: 0.1 to 2")
    side = sizes["img_size"]
    edge = math.floor(side / crop_pct)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": edge} if mode == "center" else {"height": edge, "width": edge},
        "resample": int(Image.Resampling[interpolation.upper()]),
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": settings["mean"],
        "image_std": settings["std"],
        **CENTER_CROP_OFFSET,
    }


class TimmImageProcessor(ViTImageProcessorPil):  # type: ignore[misc] # untyped base
    """ViTImageProcessor with torchvision's centre crop; takes 8-bit RGB images.

    Saved, it is a ``ViTImageProcessor`` that plain transformers loads.
    """

    def center_crop(self, image: np.ndarray, size: Any, **kwargs: Any) -> np.ndarray:
        """The centre of an array (3, H, W) of 8 bits, black where that is smaller than the crop."""
        whole = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        return np.array(_crop(whole, size)).transpose(2, 0, 1)

    def resize_and_crop(self, image: Image.Image) -> Image.Image:
        """The crop of an RGB image that the model sees. Raises ImageError where it would be huge first."""
        resized = resized_size(image.size, self.size)
        check_resized(image.size, resized)
        # The whole image, as timm does: Pillow chooses by the sizes which side it filters first, and rounds.
        return _crop(image.resize(resized, self.resample), self.crop_size)

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


def _crop(image: Image.Image, size: Any) -> Image.Image:
    left, top = _offset(image.width, size.width), _offset(image.height, size.height)
    return image.crop((left, top, left + size.width, top + size.height))  # black outside


def _offset(length: int, crop: int) -> int:
    """Where torchvision's CenterCrop starts; below 0 where it pads a smaller image, at the end the more."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)
