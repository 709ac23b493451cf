"""``transformers.pipeline("image-classification")`` by another import: the same calls, the same lists.

Leaves out every other task, and loading by a hub's URL parameters (``pipeline`` has those).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ArgumentError
from .names import DEFAULT_MODEL
from .pipeline import ViTPipeline


def pipeline(
    task: str = "image-classification",
    model: Any = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    image_processor: Any = None,
    feature_extractor: Any = None,
    device: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    batch_size: int = 1,
    top_k: int | None = 5,
    function_to_apply: str | None = None,
    **options: Any,
) -> ImageClassification:
    """What ``transformers.pipeline`` makes, with this package's reading of images and checks of models.

    Args:
        task: ``"image-classification"`` only.
        model: a name, a folder, or a model in memory together with its ``image_processor``.
        image_processor: of a model in memory (``feature_extractor`` in older code).
        device: as for :class:`ViTPipeline`, or the number of a GPU, -1 for the CPU.
        dtype: as for :class:`ViTPipeline` (``torch_dtype`` in older code).
        batch_size, top_k, function_to_apply: defaults for the calls.
        options: those of :meth:`ViTPipeline.from_pretrained`.

    Raises ArgumentError for another task, and what :class:`ViTPipeline` raises.
    """
    if task != "image-classification":
        raise ArgumentError(f"task is {task!r}; this package does 'image-classification' only")
    if isinstance(device, int):
        device = "cpu" if device < 0 else f"cuda:{device}"
    processor, number = image_processor or feature_extractor, dtype or torch_dtype
    if isinstance(model, str | Path):
        if processor is not None:
            raise ArgumentError("image_processor is for a model in memory; a name or folder has its own")
        options |= {"device": device or "auto", "dtype": number or "float32"}
        pipe = ViTPipeline.from_pretrained(model, revision, **options)
    else:
        pipe = ViTPipeline(model.to(device=device, dtype=number), processor, **options)
    return ImageClassification(pipe, batch_size, top_k, function_to_apply)


class ImageClassification:
    """Call it with one image or many; ``pipe`` is the :class:`ViTPipeline` inside."""

    task = "image-classification"

    def __init__(
        self, pipe: ViTPipeline, batch_size: int, top_k: int | None, function_to_apply: str | None
    ) -> None:
        self.pipe, self.model, self.image_processor = pipe, pipe.model, pipe.processor
        self.defaults = {"batch_size": batch_size, "top_k": top_k, "function_to_apply": function_to_apply}

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """One image → a list of ``{"label", "score"}``, best first; many → a list of such lists.

        Args:
            inputs: anything :meth:`ViTPipeline.read` takes, or an iterable of it.
            options: ``top_k`` (None: all classes), ``batch_size``, ``function_to_apply`` ("softmax",
                "sigmoid" or "none"; None: as the config says).
        """
        if unknown := options.keys() - self.defaults.keys():
            raise TypeError(f"{unknown.pop()!r} is no option here; {', '.join(self.defaults)} are")
        given = self.defaults | options
        top_k = len(self.pipe.labels) if given["top_k"] is None else given["top_k"]
        how = {"batch_size": given["batch_size"], "function_to_apply": given["function_to_apply"]}
        found = self.pipe(inputs, top_k, **how)
        return [one.to_hf() for one in found] if isinstance(found, list) else found.to_hf()

    def __repr__(self) -> str:
        return f"ImageClassification({self.pipe!r})"


__all__ = ["ImageClassification", "pipeline"]
