"""A preprocessor_config.json becomes transformers' own image processor, in its Pillow version: the same
pixels everywhere, without torchvision. And an image becomes pixel values.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import transformers
from PIL import Image
from transformers import ViTImageProcessorPil
from transformers.image_processing_backends import PilBackend
from transformers.utils import logging

from ..errors import CheckpointError, ImageError
from .config import pair
from .files import CENTER_CROP_OFFSET, PREPROCESSOR

if TYPE_CHECKING:
    import torch

MAX_SIDE = 1024  # pixels; or four times the model's own side
#: what processors for classification take besides ViT's own settings; others read files, or tile and pad
_MORE = {"crop_pct", "rescale_offset", "include_top", "do_flip_channel_order", "do_reduce_labels"}
MAX_RESIZED_PIXELS = 150_000_000  # 600 MB in Pillow: an image of one pixel by 2,400 on its way to 224


class TimmImageProcessor(ViTImageProcessorPil):  # type: ignore[misc] # untyped base
    """ViTImageProcessor with torchvision's centre crop, as timm has it; takes 8-bit RGB images.

    torchvision rounds half a pixel of the crop's offset to the even one, transformers down: it cuts one pixel
    further to the left (or the top) where the resized image is wider (higher) than the crop by 4k + 3 pixels.
    Saved, this is a ``ViTImageProcessor`` that plain transformers loads.
    """

    def center_crop(self, image: np.ndarray, size: Any, **kwargs: Any) -> np.ndarray:
        """The centre of an array (3, H, W) of 8 bits, black where that is smaller than the crop."""

        def start(length: int, crop: int) -> int:  # below 0 where the image is padded, at the end the more
            return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)

        whole = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        left, top = start(whole.width, size.width), start(whole.height, size.height)
        crop = whole.crop((left, top, left + size.width, top + size.height))
        return np.array(crop).transpose(2, 0, 1)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "image_processor_type": "ViTImageProcessor", **CENTER_CROP_OFFSET}


def make_processor(
    raw: Mapping[str, Any] | None, config: transformers.ViTConfig, where: object
) -> PilBackend:
    """The image processor that the settings describe; ViT's defaults at the model's size for None.

    Raises CheckpointError for code, for a processor that transformers does not have, and for values that
    would be costly or cannot be right.
    """
    if raw is None:
        height, width = pair(config.image_size)
        raw = {"size": {"height": height, "width": width}}
    check_settings(raw, where, max(MAX_SIDE, 4 * max(pair(config.image_size))))
    kind = raw.get("image_processor_type") or raw.get("feature_extractor_type") or "ViTImageProcessor"
    name = str(kind).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    family: Any = getattr(transformers, f"{name}Pil", None) if name.isidentifier() else None
    if CENTER_CROP_OFFSET.items() <= raw.items():  # timm's, or a folder converted from its layout
        family = TimmImageProcessor
    is_known = isinstance(family, type) and issubclass(family, PilBackend)
    takes = set(cast(Any, family).valid_kwargs.__annotations__) if is_known else {""}
    if not takes <= _MORE | set(ViTImageProcessorPil.valid_kwargs.__annotations__):
        raise CheckpointError(
            f"{where}: {PREPROCESSOR} asks for {kind!r}, which transformers does not have for Pillow and ViT"
        )
    with quiet_transformers():
        try:
            return family(**{key: raw[key] for key in takes if key in raw})
        except Exception as error:  # each processor checks its settings in its own way
            raise CheckpointError(f"{where}: {PREPROCESSOR} cannot be used: {error}") from error


def check_settings(raw: Mapping[str, Any], where: object, max_side: int) -> None:
    """CheckpointError for code, and for numbers that no preprocessing of a ViT has."""

    def invalid(reason: str) -> CheckpointError:
        return CheckpointError(f"{where}: {PREPROCESSOR} {reason}")

    if raw.get("auto_map"):
        raise invalid("has auto_map: it asks for code of its own, which is never run")
    for key in ("size", "crop_size", "pad_size"):
        if not all(type(side) is int and 1 <= side <= max_side for side in _numbers(raw.get(key))):
            raise invalid(f"has {key} {raw[key]!r}; allowed: 1 to {max_side:,} pixels for this model")
    for key in ("image_mean", "image_std", "rescale_factor"):
        values = _numbers(raw.get(key))
        real = all(isinstance(x, int | float) and math.isfinite(x) for x in values)
        count = len(values) == 3 or not isinstance(raw.get(key), list)
        if not (real and count and (key == "image_mean" or all(values))):
            raise invalid(f"has {key} {raw[key]!r}; finite numbers are needed, one or one a colour")
    # Pillow's filters; and ConvNeXt's crop_pct: the image is first made 1 / crop_pct times as large
    for key, low, high in (("resample", 0, 5), ("crop_pct", 0.5, 10)):
        value = raw.get(key)
        if value is not None and not (isinstance(value, int | float) and low <= value <= high):
            raise invalid(f"has {key} {value!r}; allowed: {low} to {high}")


def _numbers(value: Any) -> list[Any]:
    """What is given of a number, a list, or a table with numbers."""
    values = list(value.values()) if isinstance(value, Mapping) else value
    return [x for x in (values if isinstance(values, list | tuple) else [values]) if x is not None]


def to_pixel_values(processor: Any, image: Image.Image, name: str = "") -> torch.Tensor:
    """(3, H, W) in float32 on the CPU, equal to ``processor(images=image, return_tensors="pt")``.

    Pillow resizes the image before the processor sees it. The processor does the same, to the pixel, but
    copies the image to an array and back first: three times the time at 12 megapixels.

    Args:
        image: mode RGB.
        name: the image's, for messages.

    Raises ImageError: the image cannot be made the model's size (one pixel high and very wide, say).
    """
    prefix, size, options = f"{name}: " if name else "", processor.size, {}
    width, height = size.width, size.height
    if edge := size.shortest_edge:
        long = int(edge * max(image.size) / min(image.size))
        width, height = (edge, long) if image.width <= image.height else (long, edge)
        if edge * long > MAX_RESIZED_PIXELS:
            raise ImageError(
                f"{prefix}an image of {image.width}×{image.height} pixels is too long and narrow: it would "
                f"become {width:,}×{height:,} before the crop; crop it first"
            )
    known = type(processor) in (ViTImageProcessorPil, TimmImageProcessor) and not size.longest_edge
    try:
        if known and processor.do_resize and width and height:
            image, options = image.resize((width, height), processor.resample), {"do_resize": False}
        values: torch.Tensor = processor(images=[image], return_tensors="pt", **options).pixel_values[0]
        return values
    except (ValueError, OverflowError, MemoryError) as error:
        raise ImageError(
            f"{prefix}an image of {image.width}×{image.height} pixels cannot be made the model's size "
            f"({error}); crop it first"
        ) from error


def seen_image(processor: Any, pixel_values: torch.Tensor) -> Image.Image:
    """The image as the model sees it: (1, 3, H, W) → RGB, normalisation and rescaling undone."""
    pixels = pixel_values[0].float().cpu().numpy()  # (3, H, W)
    if getattr(processor, "do_normalize", False):
        mean, std = (np.reshape(values, (-1, 1, 1)) for values in (processor.image_mean, processor.image_std))
        pixels = pixels * std + mean
    if getattr(processor, "do_rescale", True):
        pixels = pixels / processor.rescale_factor
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def draft_size(processor: Any) -> tuple[int, int]:
    """(width, height) below which a JPEG must not be drafted: twice what the image is resized to."""
    size = processor.size
    return 2 * (size.shortest_edge or size.width), 2 * (size.shortest_edge or size.height)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers; as it was before on leaving."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
