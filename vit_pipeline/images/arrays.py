"""A numpy array or torch tensor → a Pillow image.

Neither library is imported to find out whether something is one of theirs: who has made an array has imported
it. Other array libraries are left out; theirs convert to numpy in one call.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

_CHANNELS = (1, 3, 4)


def is_tensor(source: object) -> bool:
    """Whether this is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, getattr(torch, "Tensor", ()))


def is_array(source: object) -> bool:
    """Whether this is a numpy array or a torch tensor."""
    numpy = sys.modules.get("numpy")
    return is_tensor(source) or (numpy is not None and isinstance(source, numpy.ndarray))


def array_name(source: Any) -> str:
    """``<array (300, 451, 3) uint8>``"""
    kind = "tensor" if is_tensor(source) else "array"
    return f"<{kind} {tuple(source.shape)} {str(source.dtype).removeprefix('torch.')}>"


def from_array(array: Any) -> Image.Image:
    """An image of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or of a tensor (H, W) or (C, H, W).

    Args:
        array: bool, uint8 (0…255), uint16 (0…65535, scaled) or float (0…1, scaled).

    Raises:
        ImageError: another shape or dtype, or values out of range; the message does not name it.
    """
    import numpy as np
    from PIL import Image

    if is_tensor(array):
        if array.ndim == 3 and array.shape[0] not in _CHANNELS:
            raise ImageError("a tensor must be (C, H, W) with C of 1, 3 or 4, or (H, W); permute it")
        tensor = array.detach().cpu()
        tensor = (
            tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
        )  # numpy has no such dtype
        array = (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()  # (H, W, C)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        first = array.ndim == 3 and array.shape[0] in _CHANNELS
        hint = "; transpose(1, 2, 0) puts the channels last" if first else "; take one image of a batch"
        raise ImageError(f"an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}")
    if array.size == 0:
        raise ImageError("it has no pixels")
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):  # not: NaN is rejected as well
            raise ImageError(f"floats must be 0 to 1, these are {low:g} to {high:g}; divide by 255")
        array = (array.astype(np.float32) * 255 + 0.5).clip(0, 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(
            f"dtype {array.dtype} is not read; use uint8 (0 to 255), uint16, bool or float (0 to 1)"
        )
    return Image.fromarray(np.ascontiguousarray(array))
