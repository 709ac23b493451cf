"""``transformers.pipeline("image-classification")`` by another import: the same calls, the same lists.

Leaves out every other task, and loading by a hub's URL parameters (``pipeline`` has those).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ArgumentError
from .names import DEFAULT_MODEL
from .pipeline import ViTPipeline, is_many, or_raise


def pipeline(
    task: str = "image-classification",
    model: Any = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    image_processor: Any = None,
    device: Any = None,
    dtype: Any = None,
    batch_size: int = 1,
    top_k: int | None = 5,
    function_to_apply: str | None = None,
    **options: Any,
) -> ImageClassification:
    """What ``transformers.pipeline`` makes, with this package's reading of images and checks of models.

    Args:
        task: ``"image-classification"`` only.
        model: a name, a folder, or a model in memory together with its ``image_processor``.
        image_processor: of a model in memory.
        device: as for :class:`ViTPipeline`, or the number of a GPU, -1 for the CPU.
        dtype: as for :class:`ViTPipeline`.
        batch_size, top_k, function_to_apply: defaults for the calls.
        options: those of :meth:`ViTPipeline.from_pretrained`.

    Raises ArgumentError for another task, and what :class:`ViTPipeline` raises.
    """
    if task != "image-classification":
        raise ArgumentError(f"task is {task!r}; this package does 'image-classification' only")
    if isinstance(device, int):
        device = "cpu" if device < 0 else f"cuda:{device}"
    if isinstance(model, str | Path):
        if image_processor is not None:
            raise ArgumentError("image_processor is for a model in memory; a name or folder has its own")
        options |= {"device": device or "auto", "dtype": dtype or "float32"}
        pipe = ViTPipeline.from_pretrained(model, revision, **options)
    else:
        pipe = ViTPipeline(model.to(device=device, dtype=dtype), image_processor, **options)
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
        given: dict[str, Any] = self.defaults | options
        if given["top_k"] is None:
            given["top_k"] = len(self.pipe.labels)
        many = is_many(inputs)
        results = self.pipe.stream(inputs if many else [inputs], threads=1, **given)
        found = [or_raise(result).to_hf() for result in results]
        return found if many else found[0]

    def __repr__(self) -> str:
        return f"ImageClassification({self.pipe!r})"


__all__ = ["ImageClassification", "pipeline"]
