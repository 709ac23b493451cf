"""A model's card: what can be computed from its files, beside what its authors published.

Leaves out: the structure module by module (``structure``), and loading the weights.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Resampling

from . import hub, loading
from .checkpoints.folder import read_preprocessing
from .names import DATA_FOLDER, DEFAULT_MODEL, KnownModel, parse_name
from .structure import Cost, describe

_LINES = tomllib.loads((DATA_FOLDER / "card.toml").read_text(encoding="utf-8"))
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
        facts = {
            **(vars(known) if known else {}),
            **vars(self),
            "size": f"{self.on_disk / 1e6:,.1f} MB on disk" if self.on_disk else "not downloaded",
            "macs": (cost.macs / 1e9, cost.macs_timm / 1e9),
            "activations": (cost.activations / 1e6, cost.activations_timm / 1e6),
            "class_text": f"{self.classes:,}" if self.classes else "no",
        }
        if known and not self.preprocessing:
            facts["said_preprocessing"] = known.preprocessing
        if known and known.repo:
            facts["pinned"] = known.revision or "not pinned: its newest"
            facts["checked"] = "checked" if known.sha256 else "not known to this package"
        facts = {key: fact for key, fact in facts.items() if fact}
        lines = []
        for line in (_LINES["computed"] + (_LINES["published"] if known else "")).splitlines():
            with suppress(KeyError):
                lines.append(line.format(**facts))
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
        steps.append(f"resize {to} ({Resampling(settings.get('resample', 2)).name.lower()})")
    if settings.get("do_center_crop") and (crop := settings.get("crop_size")) is not None:
        steps.append(f"centre crop {sides(crop)}")
    for key in ("image_mean", "image_std"):
        if (values := settings.get(key)) is not None:
            words = [f"{number:g}" for number in (values if isinstance(values, list) else [values])]
            steps.append(f"{key[6:]} {words[0] if len(set(words)) == 1 else ' '.join(words)}")
    return ", ".join(steps)
