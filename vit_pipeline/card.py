"""A model's card: what can be computed from its files, beside what its authors published.

Leaves out: the structure module by module (``structure``), and loading the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import hub, loading
from .checkpoints.folder import read_preprocessing
from .names import DEFAULT_MODEL, KnownModel, parse_name
from .structure import Cost, describe

FILTERS = ("nearest", "Lanczos", "bilinear", "bicubic", "box", "Hamming")  # by Pillow's number
_PUBLISHED = ("summary", "preprocessing", "top1", "top1_on", "top1_source", "licence", "revision", "sha256")


@dataclass(frozen=True)
class ModelCard:
    """Facts of one model; ``print`` it. Costs are for one image."""

    name: str
    source: str  #: where it is from
    on_disk: int | None  #: bytes of its files; None when it is not downloaded
    parameters: int
    cost: Cost
    input_shape: tuple[int, ...]  #: (1, 3, H, W)
    classes: int  #: 0 for a backbone without a classifier
    preprocessing: str | None  #: read from its files; None when they are not on disk
    published: KnownModel | None

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        card = {key: value for key, value in vars(self).items() if key not in ("cost", "published")}
        card |= {"input_shape": list(self.input_shape)} | asdict(self.cost)
        if self.published:
            card["published"] = {key: getattr(self.published, key) for key in _PUBLISHED}
        return card

    def __str__(self) -> str:
        cost, known = self.cost, self.published
        size = f"{self.on_disk / 1e6:,.1f} MB on disk" if self.on_disk else "not downloaded"
        height, width = self.input_shape[-2:]
        classes = f"{self.classes:,}" if self.classes else "no"
        activations = f"{cost.activations / 1e6:.2f} M", f"{cost.activations_timm / 1e6:.2f} M"
        lines = [
            self.name,
            *([f"  {known.summary}"] if known else []),
            f"  {self.source}, {size}",
            "computed",
            f"  parameters     {self.parameters:,}",
            f"  with attention {cost.macs / 1e9:.3f} GMACs, {activations[0]} activations",
            f"  without        {cost.macs_timm / 1e9:.3f} GMACs, {activations[1]} activations"
            " (as timm's cards count)",
            f"  input          {width}×{height} pixels; {classes} classes",
            *([f"  preprocessing  {self.preprocessing}"] if self.preprocessing else []),
        ]
        if known:
            lines.append("published by its authors")
            if known.preprocessing and not self.preprocessing:
                lines.append(f"  preprocessing  {known.preprocessing}")
            if known.top1:
                lines.append(f"  top-1          {known.top1} % on {known.top1_on}")
                lines.append(f"                 ({known.top1_source})")
            lines.append(f"  licence        {known.licence}")
            if known.repo:
                lines.append(f"  revision       {known.revision or 'not pinned: its newest'}")
                lines.append(f"  SHA-256        {'checked' if known.sha256 else 'not known to this package'}")
        return "\n".join(lines)


def model_card(name: str | Path = DEFAULT_MODEL, revision: str | None = None) -> ModelCard:
    """The card of a model by its name or folder; downloads at most the config of one that has no short name.

    Raises what :func:`vit_pipeline.loading.load_config` raises.
    """
    meant = parse_name(name, revision)
    folder, place = meant.folder, "ModelScope"
    if meant.repo and (copy := hub.find_cached(meant.repo, meant.revision)):
        folder, place = copy.folder, copy.source
    structure = describe(loading.load_config(name, revision))
    assert structure.input_shape is not None
    assert structure.output_shape is not None
    return ModelCard(
        name=meant.text,
        source=f"{place} {meant.repo}" if meant.repo else "embedded" if meant.known else str(folder),
        on_disk=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if folder else None,
        parameters=structure.params,
        cost=structure.cost,
        input_shape=structure.input_shape,
        classes=0 if structure.class_name == "ViTModel" else structure.output_shape[-1],
        preprocessing=describe_preprocessing(read_preprocessing(folder, str(name)) or {}) if folder else None,
        published=meant.known,
    )


def describe_preprocessing(settings: Mapping[str, Any]) -> str:
    """In words, from a ``preprocessor_config.json``."""

    def sides(size: Any) -> str:
        height, width = (size.get("height"), size.get("width")) if isinstance(size, Mapping) else (size, size)
        return f"{width}×{height}"

    steps = []
    if settings.get("do_resize", True) and (size := settings.get("size")) is not None:
        edge = size.get("shortest_edge") if isinstance(size, Mapping) else None
        to = f"short side to {edge}" if edge else f"to {sides(size)}"
        steps.append(f"resize {to} ({FILTERS[settings.get('resample', 2)]})")
    if settings.get("do_center_crop") and (crop := settings.get("crop_size")) is not None:
        steps.append(f"centre crop {sides(crop)}")
    for key in ("image_mean", "image_std"):
        if (values := settings.get(key)) is not None:
            numbers = values if isinstance(values, list) else [values]
            words = [f"{number:g}" for number in numbers]
            steps.append(f"{key[6:]} {words[0] if len(set(words)) == 1 else ' '.join(words)}")
    return ", ".join(steps)
