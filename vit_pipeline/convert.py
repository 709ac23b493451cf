"""Any model this package loads becomes a folder that plain transformers loads.

Leaves out every other direction: timm's layout is read, never written.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from . import loading
from .checkpoints.processors import quiet_transformers
from .errors import OutputError, reason


def convert(
    name: str | Path,
    folder: str | Path,
    revision: str | None = None,
    *,
    progress: loading.Progress | None = None,
) -> Path:
    """Write ``config.json``, ``preprocessor_config.json`` and ``model.safetensors`` into ``folder``.

    ``ViTForImageClassification.from_pretrained(folder)`` gives the same logits for the same pixel
    values, to the last bit. Its processor gives the same pixels, with one exception: for timm's centre crop
    plain transformers rounds the offset down where timm rounds to even, one pixel apart when the resized
    image is 3, 7, 11 … pixels longer than the crop. This package reads timm's rule from the folder.

    The folder appears when it is complete. Raises OutputError where it is not empty or cannot be written, and
    what :func:`vit_pipeline.loading.load` raises.
    """
    target = Path(folder)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"{target}: exists already and is not empty; name a new folder")
        loaded = loading.load(name, revision, device="cpu", progress=progress)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
        ) as partial:
            with quiet_transformers():
                loaded.model.save_pretrained(partial)
                loaded.processor.save_pretrained(partial)
            Path(partial).chmod(0o755)
            if target.exists():
                target.rmdir()
            os.replace(partial, target)  # noqa: PTH105 (a folder)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {reason(error)}") from error
    return target
