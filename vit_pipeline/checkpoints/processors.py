"""A preprocessor_config.json becomes transformers' own image processor, in its Pillow version: the same
pixels everywhere, without torchvision. Leaves out: timm's way to say it (``timm_processor``).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from ..errors import CheckpointError
from .config import pair
from .files import PREPROCESSOR

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from transformers import ViTConfig
    from transformers.image_processing_backends import PilBackend

MAX_SIDE = 1024  # pixels; or four times the model's own side


def make_processor(raw: Mapping[str, Any] | None, config: ViTConfig, where: object) -> PilBackend:
    """The image processor that the settings describe; ViT's defaults at the model's size for None.

    Raises CheckpointError for code, for a processor that transformers does not have, and for values that
    would be costly or cannot be right.
    """
    import transformers
    from transformers.image_processing_backends import PilBackend

    from .timm_processor import CENTER_CROP_OFFSET, TimmImageProcessor

    if raw is None:
        height, width = pair(config.image_size)
        raw = {"size": {"height": height, "width": width}}
    check_settings(raw, where, max(MAX_SIDE, 4 * max(pair(config.image_size))))
    kind = raw.get("image_processor_type") or raw.get("feature_extractor_type") or "ViTImageProcessor"
    name = str(kind).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    family: Any = getattr(transformers, f"{name}Pil", None) if name.isidentifier() else None
    if CENTER_CROP_OFFSET.items() <= raw.items():  # a folder converted from timm's layout
        family = TimmImageProcessor
    if not (isinstance(family, type) and issubclass(family, PilBackend)):
        raise CheckpointError(
            f"{where}: {PREPROCESSOR} asks for {kind!r}, which transformers does not have for Pillow"
        )
    with quiet_transformers():
        try:
            family = cast(Any, family)
            return family(**{key: raw[key] for key in family.valid_kwargs.__annotations__ if key in raw})
        except Exception as error:  # each processor checks its settings in its own way
            raise CheckpointError(f"{where}: {PREPROCESSOR} cannot be used: {error}") from error


def check_settings(raw: Mapping[str, Any], where: object, max_side: int) -> None:
    """CheckpointError for code, and for numbers that no preprocessing of a ViT has."""

    def invalid(reason: str) -> CheckpointError:
        return CheckpointError(f"{where}: {PREPROCESSOR} {reason}")

    if raw.get("auto_map"):
        raise invalid("has auto_map: it asks for code of its own, which is never run")
    for key in ("size", "crop_size", "pad_size"):
        for side in _numbers(raw.get(key)):
            if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= max_side:
                raise invalid(f"has {key} {raw[key]!r}; allowed: 1 to {max_side:,} pixels for this model")
    for key in ("image_mean", "image_std", "rescale_factor"):
        values = _numbers(raw.get(key))
        real = all(isinstance(x, int | float) and math.isfinite(x) for x in values)
        count = len(values) == 3 or not isinstance(raw.get(key), list)
        if not (real and count and (key == "image_mean" or all(values))):
            raise invalid(f"has {key} {raw[key]!r}; finite numbers are needed, one or one a colour")
    crop_pct = raw.get("crop_pct", 1)  # ConvNeXt's: the image is first made 1 / crop_pct times as large
    if crop_pct is not None and not (isinstance(crop_pct, int | float) and 0.1 <= crop_pct <= 10):
        raise invalid(f"has crop_pct {crop_pct!r}; allowed: 0.1 to 10")
    resample = raw.get("resample")
    if resample is not None and (not isinstance(resample, int) or not 0 <= resample <= 5):
        raise invalid(f"has resample {resample!r}; allowed: 0 to 5, Pillow's filters")


def _numbers(value: Any) -> list[Any]:
    """What is given of a number, a list, or a table with numbers."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return [
        number for number in (value if isinstance(value, list | tuple) else [value]) if number is not None
    ]


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers; as it was before on leaving."""
    from transformers.utils import logging

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


def seen_image(processor: Any, pixel_values: Tensor) -> Image.Image:
    """A model's input made an image again: (1, 3, H, W) → RGB, normalisation and rescaling undone."""
    import torch
    from PIL import Image

    pixels = pixel_values[0].float().cpu()  # (3, H, W)
    if getattr(processor, "do_normalize", False):
        mean, std = (torch.as_tensor(v).view(-1, 1, 1) for v in (processor.image_mean, processor.image_std))
        pixels = pixels * std + mean
    if getattr(processor, "do_rescale", True):
        pixels = pixels / processor.rescale_factor
    return Image.fromarray(pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
