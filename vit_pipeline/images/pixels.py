"""Arrays, colours and orientation: a Pillow image of any kind, or an array, → RGB, upright."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import ImageError

#: The value of white in an array, by its dtype; black is 0.
_WHITE = {"bool": 1, "uint8": 255, "uint16": 65535, "float16": 1, "float32": 1, "float64": 1}
_BAND_PIXELS = 2_000_000


def from_array(array: Any) -> Image.Image:
    """An image of an array, channels last, or of a tensor, channels first."""
    tensor = hasattr(array, "permute")
    if tensor:
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() else array  # numpy has no bfloat16
    array = np.asarray(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[0 if tensor else 2] not in (1, 3, 4)):
        must = "a tensor must be (H, W) or (C, H, W)" if tensor else "an array must be (H, W) or (H, W, C)"
        raise ImageError(f"{must}, with C of 1, 3 or 4; reorder its axes, or take one image of a batch")
    white = _WHITE.get(array.dtype.name)
    if white is None:
        raise ImageError(f"dtype {array.dtype} is not read; use uint8, uint16, bool, or float from 0 to 1")
    if array.size == 0:
        raise ImageError("it has no pixels")
    array = np.moveaxis(array, 0, 2) if tensor and array.ndim == 3 else array
    array = array[:, :, 0] if array.shape[2:] == (1,) else array
    return Image.fromarray(np.ascontiguousarray(array if white == 255 else _to_bytes(array, white)))


def _to_bytes(values: Any, white: int) -> Any:
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-6 and high <= white + 1e-6):  # not: NaN is rejected as well
        raise ImageError(f"its values reach from {low:g} to {high:g}, not 0 to {white}; scale them first")
    return (values.astype(np.float32) * (255 / white) + 0.5).clip(0, 255).astype(np.uint8)


def orientation(image: Image.Image) -> Any:
    """The Exif orientation, also where it stands only in XMP or in ImageMagick's raw profile."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Exif blocks are broken in many ways: what cannot be read turns nothing
        return None


def upright(image: Image.Image, orientation: Any) -> Image.Image:
    """An image without metadata, turned and mirrored in place."""
    if orientation in range(2, 9):
        image.getexif()[ExifTags.Base.Orientation] = orientation
        ImageOps.exif_transpose(image, in_place=True)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """A new RGB image of the same pixels, in bands of rows, so that no step holds it in yet another mode.

    What is transparent is laid on white. Modes of 16 bits (``I;16`` and ``I``) are scaled from 0…65535, not
    clipped. ``F`` is taken as 0…1 where all its values are, else as 0…255.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        copy = image.copy()
        copy.info.clear()
        return copy
    white = 65535 if image.mode.startswith("I") else 0
    if image.mode == "F":
        white = 1 if image.getextrema()[1] <= 1 else 255  # type: ignore[operator]
    rgb = Image.new("RGB", image.size, "white")
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band, mask = image.crop((0, top, image.width, min(top + rows, image.height))), None
        if white:
            values = np.asarray(band)
            grays = _to_bytes(values, white)
            grays[values == image.info.get("transparency", -1)] = 255
            band = Image.fromarray(grays)
        elif image.has_transparency_data:
            band = mask = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
        rgb.paste(band.convert("RGB"), (0, top), mask)
    return rgb
