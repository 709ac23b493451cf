"""One image, explained: what the model attends to, what it would have said layer by layer, where the evidence is.

Leaves out how each is computed (``inside``, ``maps``, ``faithfulness``) and drawn (``figure``).
"""

from __future__ import annotations

import difflib
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.config import pair
from ..errors import ArgumentError, CheckpointError
from . import figure, inside, maps
from .faithfulness import Faithfulness, centre_map, measure
from .inside import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..pipeline import Prediction, ViTPipeline

#: These do not know the class.
FROM_ATTENTION = ("attention", "rollout")
METHODS = ("gradient-attention", "occlusion", "integrated-gradients", *FROM_ATTENTION)

P, R = ParamSpec("P"), TypeVar("R")


def _kept(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Computed at the first call with these arguments, once, whichever threads call; then kept, read-only."""

    @wraps(method)
    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (method.__name__, args, *sorted(kwargs.items()))
        with self._lock:
            if key not in self._found:
                found = self._found[key] = method(self, *args, **kwargs)
                if isinstance(found, np.ndarray):
                    found.setflags(write=False)
            return self._found[key]  # type: ignore[no-any-return]

    return run


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a decision came from, and how far to trust that. Made by ``ViTPipeline.explain``.

    Everything is computed when it is asked for, and kept. Maps have one score for each patch of the model's
    grid, (rows, cols), in float32. L layers, H heads, N tokens: CLS, then the patches row by row.

    >>> e = pipe.explain("examples/cat.png")
    >>> e.heatmap().shape, e.faithfulness().gain > e.faithfulness().centre.gain
    ((8, 8), True)
    """

    pipe: ViTPipeline = field(repr=False)
    pixel_values: Tensor = field(repr=False)  #: (1, 3, H, W), as the model takes the image
    source: str  #: the image's name
    prediction: Prediction | None  #: None: a backbone, without a classifier
    target: int | None  #: the index of the class that is explained
    _found: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: Any = field(default_factory=threading.RLock, init=False, repr=False)

    @property
    def patch(self) -> tuple[int, int]:
        """The (height, width) of a patch in pixels."""
        height, width = pair(self.pipe.model.config.patch_size)
        return height, width

    @property
    def grid(self) -> tuple[int, int]:
        """How many (rows, cols) of patches there are."""
        return self.pixel_values.shape[2] // self.patch[0], self.pixel_values.shape[3] // self.patch[1]

    @property
    def label(self) -> str:
        """The class that is explained."""
        return self.pipe.labels[self._classified("a class")]

    @property
    def probability(self) -> float:
        """The probability of that class."""
        return float(self._probabilities(self.pixel_values)[0])

    @property
    def image(self) -> Image.Image:
        """The image as the model saw it: RGB, at the model's size."""
        return seen_image(self.pipe.processor, self.pixel_values)

    # What happens inside

    @property
    @_kept
    def attentions(self) -> Floats:
        """(L, H, N, N): what token i looks at in row i; equal to ``output_attentions`` of an eager model."""
        return inside.attentions(self.pipe.model, self.pixel_values)

    def attention(self, layer: int = -1, head: int | None = None) -> Floats:
        """What CLS looks at, (rows, cols), in one layer and one head, or in the mean of its heads.

        Both are counted from 0, or from the end as -1, -2 … Raises ArgumentError.
        """
        for what, index, count in zip(("layer", "head"), (layer, head), self.attentions.shape, strict=False):
            if index is not None and not -count <= index < count:
                raise ArgumentError(f"there is no {what} {index}: this model has {what}s 0 to {count - 1}")
        heads = self.attentions[layer]  # (H, N, N)
        return (heads.mean(0) if head is None else heads[head])[0, 1:].reshape(self.grid)

    def rollout(self) -> Floats:
        """How attention flows from the patches through all layers to CLS, (rows, cols); heads are averaged.

        Source: Abnar & Zuidema 2020: the product of (A + 1)/2 over the layers.
        """
        row = inside.flow(self.attentions.mean(1)) / 2 ** len(self.attentions)
        return np.asarray(row, np.float32).reshape(self.grid)

    def attention_distance(self) -> Floats:
        """How far each head looks, (L, H), in pixels of the image as the model saw it.

        Source: Dosovitskiy et al. 2021, figure 7, right; among the patches alone, CLS left out.
        """
        return inside.attention_distance(self.attentions, self.grid, self.patch)

    @property
    def lens(self) -> list[Prediction]:
        """What the model would have said after layer 0 (the embeddings) … L; the last is the prediction.

        Source: nostalgebraist 2020, the logit lens: the final LayerNorm and the classifier on each layer's CLS.
        """
        return [self.pipe.postprocess(logits, sources=[self.source])[0] for logits in self._lens_logits()]

    @_kept
    def _lens_logits(self) -> list[Tensor]:
        self._classified("the lens")
        return inside.lens(self.pipe.model, self.pixel_values)

    # Where the evidence lies

    @_kept
    def heatmap(
        self,
        method: str = "gradient-attention",
        *,
        layer: int = -1,
        head: int | None = None,
        steps: int = 32,
    ) -> Floats:
        """(rows, cols): how much each patch speaks for the class; below 0: against it.

        Args:
            method: ``gradient-attention`` (Chefer et al. 2021: as faithful as the slow ones, in one pass there
                and back); ``occlusion`` (what graying a patch costs the logit); ``integrated-gradients`` (what
                it adds to the logit between gray and the image); ``attention``, ``rollout``: what CLS looks
                at, whatever the class.
            layer, head: those of ``attention``.
            steps: those of ``integrated-gradients``.

        Raises ArgumentError, also where a method's package is missing; CheckpointError for a backbone.
        """
        if method not in METHODS:
            raise ArgumentError(f"method is {method!r}; use {', '.join(METHODS)}")
        if method != "attention" and (layer, head) != (-1, None):
            raise ArgumentError(f"layer and head are for the method 'attention', not {method!r}")
        if method == "attention":
            return self.attention(layer, head).copy()
        if method == "rollout":
            return self.rollout()
        given = (self.pipe.model, self.pixel_values, self._classified(method))
        if method == "gradient-attention":
            found = maps.gradient_attention(*given)
        elif method == "occlusion":
            found = maps.occlusion(*given, self._gray(), self._patches())
        else:
            found = maps.integrated_gradients(*given, self._gray(), self._patches(), steps)
        return found.reshape(self.grid)

    @_kept
    def faithfulness(
        self, method: str = "gradient-attention", *, layer: int = -1, head: int | None = None
    ) -> Faithfulness:
        """How far this image bears the map out, beside a random map and the image's centre.

        The arguments are those of :meth:`heatmap`.
        """
        scores = self.heatmap(method, layer=layer, head=head)
        return self._measured(
            method, scores, random=self.yardstick("random"), centre=self.yardstick("centre")
        )

    @_kept
    def yardstick(self, name: str) -> Faithfulness:
        """The faithfulness of ``"random"``, a map of the image's own random numbers, or of ``"centre"``."""
        seed = zlib.crc32(inside.to_numpy(self.pixel_values).tobytes())  # the same for the same image
        random = np.random.default_rng(seed).random(self.grid, np.float32)
        return self._measured(name, random if name == "random" else centre_map(self.grid))

    def _measured(self, name: str, scores: Floats, **yardsticks: Faithfulness) -> Faithfulness:
        self._classified("faithfulness")
        given = (self._probabilities, self.pixel_values, self._gray(), self._patches())
        return measure(name, scores, *given, **yardsticks)

    def _classified(self, what: str) -> int:
        if self.target is None:
            raise CheckpointError(
                f"{self.pipe.name}: a backbone without a classifier, and {what} needs one; it has attention, rollout "
                "and attention_distance"
            )
        return self.target

    def _probabilities(self, images: Tensor) -> Floats:
        """Of the class, (B,), in images (B, 3, H, W)."""
        every = self.pipe.postprocess(self.pipe.forward(images), len(self.pipe.labels))
        return np.array([next(c.score for c in p.top if c.index == self.target) for p in every], np.float32)

    def _gray(self) -> Tensor:
        """The model's input for a gray image, (1, 3, H, W)."""
        height, width = self.pixel_values.shape[2:]
        return self.pipe.preprocess(Image.new("RGB", (width, height), "gray")).to(self.pixel_values)

    def _patches(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The patch of each pixel, (H, W)."""
        row, col = (
            np.minimum(np.arange(pixels) // size, count - 1)
            for pixels, size, count in zip(self.pixel_values.shape[2:], self.patch, self.grid, strict=True)
        )
        return row[:, None] * self.grid[1] + col

    # What is shown of it

    def evidence(
        self, method: str = "gradient-attention", *, layer: int = -1, head: int | None = None
    ) -> str:
        """Which patches hold the evidence, in words; rows and columns counted from 1, from the top left."""
        return figure.evidence(self.heatmap(method, layer=layer, head=head))

    def notes(
        self, method: str = "gradient-attention", *, layer: int = -1, head: int | None = None
    ) -> list[str]:
        """The small print: how the map did on this image, and what such a map cannot show."""
        return figure.notes(self, method, layer, head)

    def figure(
        self,
        method: str = "gradient-attention",
        *,
        layer: int = -1,
        head: int | None = None,
        all_heads: bool = False,
        lens: bool = False,
        faithfulness: bool = False,
    ) -> Figure:
        """The image as the model saw it, and the map over it; in small print, how far to trust the map.

        Args:
            method, layer, head: as for :meth:`heatmap`.
            all_heads, lens, faithfulness: below it, what CLS looks at in every head, the lens, the curves.
        """
        return figure.draw(
            self, method, layer, head, all_heads=all_heads, lens=lens, faithfulness=faithfulness
        )

    def to_dict(
        self, method: str = "gradient-attention", *, layer: int = -1, head: int | None = None
    ) -> dict[str, Any]:
        """The map, the evidence in words, the lens and the faithfulness, as they stand in JSON output."""
        return figure.to_dict(self, method, layer, head)

    def save(self, path: str | Path, method: str = "gradient-attention", **options: Any) -> None:
        """Write a ``.png`` (the figure), ``.html`` (one page, complete in itself), ``.json`` or ``.npz`` (arrays).

        ``options``: those of :meth:`figure`. Raises ArgumentError, OutputError.
        """
        figure.save(self, path, method, **options)


def explain(
    pipe: ViTPipeline, pixel_values: Tensor, source: str = "", target: str | int | None = None
) -> Explanation:
    """The explanation of one image that is preprocessed already, (1, 3, H, W).

    ``target``: a class by its label or index; None: the predicted one. Raises ArgumentError.
    """
    pixel_values = pixel_values.to(pipe.device)
    if not pipe.labels:
        return Explanation(pipe, pixel_values, source, None, None)
    prediction = pipe.postprocess(pipe.forward(pixel_values), sources=[source])[0]
    index = prediction.index if target is None else find_class(pipe.labels, target)
    return Explanation(pipe, pixel_values, source, prediction, index)


def find_class(labels: Sequence[str], target: str | int) -> int:
    """The index of a class: its label, one of the names in it, or the index itself. Raises ArgumentError."""
    names = [{label, *label.split(", ")} for label in labels]
    found = [index for index, own in enumerate(names) if target in own]
    if not found and not (isinstance(target, str) and not target.isdecimal()):
        found = [int(target)] if 0 <= int(target) < len(labels) else []
    if len(found) == 1:
        return found[0]
    if found:
        raise ArgumentError(f"{target!r} is the name of {len(found)} classes; give an index: {found}")
    near = difflib.get_close_matches(str(target), {name for own in names for name in own}) or labels[:5]
    raise ArgumentError(
        f"there is no class {target!r} among {len(labels):,}; give an index or a label, such as {', '.join(near)}"
    )


def seen_image(processor: Any, pixel_values: Tensor) -> Image.Image:
    """The model's input made an image again: (1, 3, H, W) → RGB, normalisation and rescaling undone."""
    pixels = pixel_values[0].float().cpu()  # (3, H, W)
    if getattr(processor, "do_normalize", False):
        mean, std = (torch.as_tensor(v).view(-1, 1, 1) for v in (processor.image_mean, processor.image_std))
        pixels = pixels * std + mean
    if getattr(processor, "do_rescale", True):
        pixels = pixels / processor.rescale_factor
    return Image.fromarray(pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
