"""A numpy array or torch tensor → a Pillow image.

Neither library is imported to find out whether something is one of theirs: who has made an array has imported
it. Other array libraries are left out; theirs convert to numpy in one call.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .metadata import Refused

if TYPE_CHECKING:
    from PIL import Image

_CHANNELS = (1, 3, 4)


def is_array(source: object) -> bool:
    """Whether this is a numpy array."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(source, numpy.ndarray)


def is_tensor(source: object) -> bool:
    """Whether this is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, getattr(torch, "Tensor", ()))


def array_name(source: Any) -> str:
    """``<array (300, 451, 3) uint8>``"""
    kind = "tensor" if is_tensor(source) else "array"
    return f"<{kind} {tuple(source.shape)} {str(source.dtype).removeprefix('torch.')}>"


def from_tensor(tensor: Any, max_pixels: int) -> Image.Image:
    """An image of a tensor (C, H, W) with C of 1, 3 or 4, or (H, W); dtypes as for :func:`from_array`."""
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in _CHANNELS):
        raise Refused("a tensor must be (C, H, W) with C of 1, 3 or 4; permute it, and take one of a batch")
    if tensor.ndim == 3:
        tensor = tensor.permute(1, 2, 0)  # (H, W, C)
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # numpy has no such dtype
        tensor = tensor.float()
    return from_array(tensor.numpy(), max_pixels)


def from_array(array: Any, max_pixels: int) -> Image.Image:
    """An image of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).

    Args:
        array: bool, uint8 (0…255), uint16 (0…65535, scaled) or float (0…1, scaled).
        max_pixels: height times width that is taken at most.

    Raises:
        Refused: another shape or dtype, or values out of range; the message says what to do.
    """
    import numpy as np
    from PIL import Image

    from .decode import check_pixels

    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        hint = (
            "; transpose(1, 2, 0) puts the channels last"
            if array.ndim == 3 and array.shape[0] in _CHANNELS
            else ""
        )
        raise Refused(f"an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}")
    if array.size == 0:
        raise Refused("it has no pixels")
    check_pixels((array.shape[1], array.shape[0]), max_pixels)
    array = np.asarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):  # not: NaN is refused as well
            raise Refused(f"floats must be 0 to 1, these are {low:g} to {high:g}; divide by 255")
        array = (array.astype(np.float32) * 255 + 0.5).clip(0, 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise Refused(
            f"dtype {array.dtype} is not taken; use uint8 (0 to 255), uint16, bool or float (0 to 1)"
        )
    return Image.fromarray(np.ascontiguousarray(array))
