"""What the model says of an image, as plain data. Leaves out how it comes to that (``pipeline``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LabelScore:
    """One class: its name, its probability (0 to 1), its index in the logits."""

    label: str
    score: float
    index: int

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output."""
        return {"label": self.label, "score": self.score, "index": self.index}


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image. ``print(prediction)`` reads like the tutorial's last line."""

    label: str  #: the likeliest class
    score: float  #: its probability, 0 to 1
    index: int  #: its index in the logits
    top: tuple[LabelScore, ...]  #: the likeliest classes, best first
    source: str  #: the image's name
    model: str  #: the model's name

    def to_dict(self) -> dict[str, Any]:
        """``source, model, label, score, index, top``, as it stands in JSON output."""
        return {
            "source": self.source,
            "model": self.model,
            "label": self.label,
            "score": self.score,
            "index": self.index,
            "top": [entry.to_dict() for entry in self.top],
        }

    def __str__(self) -> str:
        return f"Predicted class: {self.label}"
