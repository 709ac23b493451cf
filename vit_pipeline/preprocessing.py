"""An RGB image → the model's pixel values, by the checkpoint's own processor.

The image is resized with Pillow before the processor sees it. That is what the processor does too, to the
pixel, but it copies the image to an array and back first: at 12 megapixels three times the time, at 48 more
than half a gigabyte. Leaves out: reading (``images``), batches and devices (``pipeline``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import ViTImageProcessorPil

from .checkpoints.timm_processor import TimmImageProcessor, check_resized, resized_size
from .errors import ImageError

if TYPE_CHECKING:
    import torch
    from PIL import Image


def to_pixel_values(processor: Any, image: Image.Image, name: str = "") -> torch.Tensor:
    """(3, H, W) in float32 on the CPU, equal to ``processor(images=image, return_tensors="pt")``.

    Args:
        image: mode RGB.
        name: the image's, for messages.

    Raises:
        ImageError: the image cannot be made the model's size: one pixel high and very wide, say.
    """
    name = name or f"an image of {image.width}×{image.height} pixels"
    try:
        small, done = _resized(processor, image)
        values: torch.Tensor = processor(images=[small], return_tensors="pt", **done).pixel_values[0]
        return values
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except (ValueError, OverflowError, MemoryError) as error:
        raise ImageError(f"{name}: cannot be made the model's size ({error}); crop it first") from error


def _resized(processor: Any, image: Image.Image) -> tuple[Image.Image, dict[str, bool]]:
    """The image after the processor's first steps, and those steps switched off."""
    if type(processor) is TimmImageProcessor:
        return processor.resize_and_crop(image), {"do_resize": False, "do_center_crop": False}
    size = processor.size
    if size.shortest_edge:
        check_resized(image.size, resized_size(image.size, size))
    if type(processor) is ViTImageProcessorPil and processor.do_resize and size.height and size.width:
        return image.resize((size.width, size.height), processor.resample), {"do_resize": False}
    return image, {}
