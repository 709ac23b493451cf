"""The models that have a short name: where each is from, and what its authors published.

Data only. Sizes, class names and preprocessing are never taken from here: they travel with the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_MODEL = "vit-base"
DATA_FOLDER = Path(__file__).parent
#: ImageNet-1k class names, one a line, in the order of the classes, as vit-base has them
IMAGENET_LABELS = DATA_FOLDER / "imagenet1k_labels.txt"


@dataclass(frozen=True)
class KnownModel:
    """One short name. ``repo`` is None for the embedded model, whose files are in ``folder``."""

    name: str
    summary: str
    repo: str | None = None
    folder: Path | None = None
    #: a copy of the checkpoint's config (facts only: sizes and class names), so that the structure can be
    #: shown before anything is downloaded
    config: Path | None = None
    top1: float | None = None
    top1_source: str = ""
    #: preprocessing as its authors published it, for a card; what is run travels with the checkpoint
    preprocessing: str = ""
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    licence: str = "apache-2.0"


KNOWN_MODELS: dict[str, KnownModel] = {
    known.name: known
    for known in (
        KnownModel(
            "vit-base",
            "ViT-B/16, 1000 ImageNet classes",
            repo="AI-ModelScope/vit-base-patch16-224",
            config=DATA_FOLDER / "configs" / "vit-base.json",
            preprocessing="resize to 224×224 (bilinear), mean 0.5, std 0.5",
            top1=81.782,
            top1_source="timm results-imagenet.csv, as vit_base_patch16_224.orig_in21k_ft_in1k",
        ),
        KnownModel(
            "vit-small",
            "ViT-S/16 augreg, 1000 ImageNet classes, timm's checkpoint",
            repo="timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
            config=DATA_FOLDER / "configs" / "vit-small.json",
            preprocessing="resize short side to 248 (bicubic), centre crop 224×224, mean 0.5, std 0.5",
            top1=81.402,
            top1_source="timm results-imagenet.csv, as vit_small_patch16_224.augreg_in21k_ft_in1k",
        ),
        KnownModel(
            "demo",
            "ViT 32×32, trained on CIFAR-10, knows only 10 classes; embedded, works offline",
            folder=DATA_FOLDER / "demo_model",
            config=DATA_FOLDER / "demo_model" / "config.json",
        ),
    )
}
