"""Where a model runs and in which number format, picked from names or by looking at the machine."""

from __future__ import annotations

import torch

from .errors import DeviceError

DTYPES = ("float32", "bfloat16", "auto")


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """``auto`` → CUDA, then MPS, then CPU; any other name must be there. Raises DeviceError."""
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(
            f"device {device!r} means nothing to torch; use auto, cpu, cuda, cuda:1 or mps"
        ) from error
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(picked.type, 0)
    if (picked.index or 0) >= count:
        raise DeviceError(f"device {device}: this machine has {count} of kind {picked.type}; use auto or cpu")
    return torch.device("cuda:0") if str(picked) == "cuda" else picked


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """``float32``, ``bfloat16``, or ``auto``: bfloat16 only where the device has instructions for it.

    Raises DeviceError for anything else.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise DeviceError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    if name == "auto":
        name = "bfloat16" if has_native_bfloat16(device) else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware there (elsewhere they work, slowly)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return any(features.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False
