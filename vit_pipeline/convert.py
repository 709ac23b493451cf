"""Any model this package loads becomes a folder that plain transformers loads.

Leaves out every other direction: timm's layout is read, never written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from .files import new_folder
from .loading import LocateOptions
from .pipeline import ViTPipeline


def convert(
    name: str | Path,
    folder: str | Path,
    revision: str | None = None,
    *,
    device: str = "cpu",
    **options: Unpack[LocateOptions],
) -> Path:
    """Write ``config.json``, ``preprocessor_config.json`` and ``model.safetensors`` into ``folder``.

    ``ViTForImageClassification.from_pretrained(folder)`` gives the same logits for the same pixel
    values, to the last bit. Its processor gives the same pixels, with one exception: for timm's centre crop
    plain transformers rounds the offset down where timm rounds to even, one pixel apart when the resized
    image is 3, 7, 11 … pixels longer than the crop. This package reads timm's rule from the folder.

    The arguments are those of :meth:`ViTPipeline.from_pretrained`. Raises what it raises, and what
    :meth:`ViTPipeline.save_pretrained` raises.
    """
    with new_folder(folder) as partial:
        ViTPipeline.from_pretrained(name, revision, device=device, **options).write_files(partial)
    return Path(folder)
