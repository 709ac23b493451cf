"""Give it an image, get what a Vision Transformer sees, and be able to look inside every step.

What needs torch is loaded on first use: ``import vit_pipeline`` itself is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .errors import *  # noqa: F403

if TYPE_CHECKING:
    from .batch import classify as classify
    from .evaluation import Evaluation as Evaluation
    from .evaluation import evaluate as evaluate
    from .explorer import Exploration as Exploration
    from .explorer import explore as explore
    from .features import similar as similar
    from .pipeline import LabelScore as LabelScore
    from .pipeline import Prediction as Prediction
    from .pipeline import ViTPipeline as ViTPipeline
    from .pipeline import predict as predict
    from .structure import ModelStructure as ModelStructure
    from .structure import compare as compare
    from .structure import describe as describe
    from .training import Finetuned as Finetuned
    from .training import finetune as finetune

__version__ = "0.1.0"

_LATER = {
    "batch": ["classify"],
    "evaluation": ["Evaluation", "evaluate"],
    "explorer": ["Exploration", "explore"],
    "features": ["similar"],
    "pipeline": ["LabelScore", "Prediction", "ViTPipeline", "predict"],
    "structure": ["ModelStructure", "compare", "describe"],
    "training": ["Finetuned", "finetune"],
}
_MODULES = {name: module for module, names in _LATER.items() for name in names}
__all__ = [*errors.__all__, *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
