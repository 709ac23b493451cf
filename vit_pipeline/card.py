"""A model's card: what can be computed from its files, beside what its authors published.

Leaves out: the structure module by module (``structure``), and loading the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import hub, loading
from .catalog import DEFAULT_MODEL, KnownModel
from .checkpoints.folder import read_preprocessing
from .names import parse_name
from .structure import describe
from .structure.costs import Cost

FILTERS = ("nearest", "Lanczos", "bilinear", "bicubic", "box", "Hamming")  # by Pillow's number


@dataclass(frozen=True)
class ModelCard:
    """Facts of one model; ``print`` it. Costs are for one image."""

    name: str
    source: str  #: where it is from
    on_disk: int | None  #: bytes of its files; None when it is not downloaded
    parameters: int
    cost: Cost
    input_shape: tuple[int, ...]  #: (1, 3, H, W)
    classes: int
    recipe: str | None  #: preprocessing, read from its files; None when they are not on disk
    published: KnownModel | None

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        card = {key: value for key, value in vars(self).items() if key not in ("cost", "published")}
        card |= {"input_shape": list(self.input_shape)} | asdict(self.cost)
        if self.published:
            known = self.published
            card["published"] = {
                "summary": known.summary,
                "recipe": known.recipe,
                "top1": known.top1,
                "top1_source": known.top1_source,
                "licence": known.licence,
            }
        return card

    def __str__(self) -> str:
        cost, size = self.cost, f"{self.on_disk / 1e6:,.1f} MB on disk" if self.on_disk else "not downloaded"
        height, width = self.input_shape[-2:]
        macs = f"{cost.macs / 1e9:.3f}", f"{cost.macs_timm / 1e9:.3f}"
        activations = f"{cost.activations / 1e6:.2f} M", f"{cost.activations_timm / 1e6:.2f} M"
        lines = [
            self.name,
            *([f"  {self.published.summary}"] if self.published else []),
            f"  {self.source}, {size}",
            "computed",
            f"  parameters     {self.parameters:,}",
            f"  with attention {macs[0]} GMACs, {activations[0]} activations",
            f"  without        {macs[1]} GMACs, {activations[1]} activations (as timm's cards count)",
            f"  input          {width}×{height} pixels; {self.classes:,} classes",
        ]
        if self.recipe:
            lines.append(f"  preprocessing  {self.recipe}")
        if self.published and (self.published.top1 or self.published.recipe):
            lines.append("published by its authors")
            if self.published.recipe and not self.recipe:
                lines.append(f"  preprocessing  {self.published.recipe}")
            if self.published.top1:
                lines.append(f"  top-1          {self.published.top1} % on ImageNet-1k")
                lines.append(f"                 ({self.published.top1_source})")
            lines.append(f"  licence        {self.published.licence}")
        return "\n".join(lines)


def model_card(name: str | Path = DEFAULT_MODEL, revision: str | None = None) -> ModelCard:
    """The card of a model by its name or folder; downloads at most the config of one that has no short name.

    Raises what :func:`vit_pipeline.loading.load_config` raises.
    """
    meant = parse_name(name, revision)
    folder = meant.folder
    if meant.repo and (copy := hub.find_cached(meant.repo, meant.revision)):
        folder = copy.folder
    structure = describe(loading.load_config(name, revision))
    assert structure.input_shape is not None
    assert structure.output_shape is not None
    recipe = describe_recipe(read_preprocessing(folder, str(name)) or {}) if folder else None
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if folder else None
    source = f"ModelScope {meant.repo}" if meant.repo else "embedded" if meant.known else str(folder)
    return ModelCard(
        meant.text,
        source,
        size,
        structure.params,
        structure.cost,
        structure.input_shape,
        structure.output_shape[-1],
        recipe,
        meant.known,
    )


def describe_recipe(settings: Mapping[str, Any]) -> str:
    """Preprocessing in words, from a ``preprocessor_config.json``."""
    steps = []
    if settings.get("do_resize", True) and (size := settings.get("size")) is not None:
        size = size if isinstance(size, Mapping) else {"height": size, "width": size}
        edge = size.get("shortest_edge")
        to = f"short side to {edge}" if edge else f"to {size.get('width')}×{size.get('height')}"
        steps.append(f"resize {to} ({FILTERS[settings.get('resample', 2)]})")
    if settings.get("do_center_crop") and (crop := settings.get("crop_size")) is not None:
        crop = crop if isinstance(crop, Mapping) else {"height": crop, "width": crop}
        steps.append(f"centre crop {crop.get('width')}×{crop.get('height')}")
    for key in ("image_mean", "image_std"):
        if values := settings.get(key):
            same = len(set(values)) == 1
            steps.append(f"{key[6:]} {values[0] if same else ' '.join(f'{value:g}' for value in values)}")
    return ", ".join(steps)
