"""Give it an image, get what a Vision Transformer sees, and be able to look inside every step.

The public names are loaded on first use: ``import vit_pipeline`` itself loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import classify as classify
    from .errors import VitPipelineError as VitPipelineError
    from .pipeline import LabelScore as LabelScore
    from .pipeline import Prediction as Prediction
    from .pipeline import ViTPipeline as ViTPipeline
    from .pipeline import predict as predict
    from .structure import ModelStructure as ModelStructure
    from .structure import describe as describe

__version__ = "0.1.0"

_WHERE = {
    "VitPipelineError": "errors",
    "classify": "batch",
    "LabelScore": "pipeline",
    "Prediction": "pipeline",
    "ViTPipeline": "pipeline",
    "predict": "pipeline",
    "ModelStructure": "structure",
    "describe": "structure",
}
__all__ = [
    "LabelScore",
    "ModelStructure",
    "Prediction",
    "ViTPipeline",
    "VitPipelineError",
    "classify",
    "describe",
    "predict",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
