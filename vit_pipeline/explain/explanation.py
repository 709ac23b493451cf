"""One image, explained: what the model attends to, what each layer would have said, where the evidence lies.

Leaves out how it is computed (``inside``, ``faithfulness``) and shown (``figure``).
"""

from __future__ import annotations

import difflib
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from PIL import Image
from torch import Tensor

from ..checkpoints.config import pair
from ..checkpoints.processors import seen_image
from ..errors import ArgumentError, CheckpointError
from . import figure, inside
from .faithfulness import Faithfulness, measure
from .inside import Floats, Indices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..pipeline import LabelScore, Prediction, ViTPipeline

DEFAULT = "gradient-attention"  #: as faithful as the slow ones, in one pass there and back
METHODS = (DEFAULT, "occlusion", "integrated-gradients", "attention", "rollout")
Method = TypeVar("Method", bound=Callable[..., Any])


def _kept(method: Method) -> Method:
    """Computed once for the same arguments, whichever threads ask for it; arrays are kept read-only."""

    @wraps(method)
    def run(self: Explanation, *args: Any, **options: Any) -> Any:
        key = (method.__name__, args, *sorted(options.items()))
        with self._lock:
            if key not in self._found:
                self._found[key] = method(self, *args, **options)
                if isinstance(self._found[key], np.ndarray):
                    self._found[key].setflags(write=False)
            return self._found[key]

    return cast(Method, run)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the decision for one image came from. ``ViTPipeline.explain`` makes it.

    Everything is computed when it is asked for, and kept. A map is (rows, cols), one score for each patch of
    the model's grid. L layers, H heads, N tokens: CLS, then the patches row by row.

    >>> e = ViTPipeline.from_pretrained("demo").explain("examples/cat.png")
    >>> e.heatmap().shape, e.faithfulness().gain > e.faithfulness().centre.gain
    ((8, 8), True)
    """

    pipe: ViTPipeline = field(repr=False)
    pixel_values: Tensor = field(repr=False)  #: (1, 3, H, W), what the model takes
    image: Image.Image = field(repr=False)  #: the same as an image: what the model saw
    source: str  #: the image's name
    prediction: Prediction | None  #: None for a backbone, which has no classifier
    target: LabelScore | None  #: the class that is explained, with its probability
    patch: tuple[int, int]  #: (height, width) of a patch, in pixels of ``image``
    grid: tuple[int, int]  #: (rows, cols) of patches
    _found: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: Any = field(default_factory=threading.RLock, init=False, repr=False)

    @property
    @_kept
    def attentions(self) -> Floats:
        """(L, H, N, N): row i is what token i looks at. Equal to ``output_attentions`` of an eager model."""
        return inside.attentions(self.pipe.model, self.pixel_values)

    def attention(self, layer: int = -1, head: int | None = None, token: int = 0) -> Floats:
        """What a token looks at, (rows, cols), in one layer and one head; None: in the mean of its heads.

        Token 0 is CLS, then come the patches, row by row. All are counted from 0, or from the end as -1, -2 …
        Raises ArgumentError.
        """
        given = {"layer": layer, "head": head, "token": token}
        for (what, index), count in zip(given.items(), self.attentions.shape, strict=False):
            if index is not None and not -count <= index < count:
                raise ArgumentError(f"there is no {what} {index}; this model has {what}s 0 to {count - 1}")
        heads = self.attentions[layer]  # (H, N, N)
        tokens: Floats = (heads.mean(0) if head is None else heads[head])[token]  # (N,)
        return tokens[1:].reshape(self.grid)

    def rollout(self) -> Floats:
        """How attention flows from the patches through all layers to CLS, (rows, cols), heads averaged.

        Source: Abnar & Zuidema 2020, the product of (A + 1)/2 over the layers.
        """
        return inside.flow(self.attentions.mean(1)).reshape(self.grid) / np.float32(2 ** len(self.attentions))

    def attention_distance(self) -> Floats:
        """How far the heads look, (L, H), in pixels of ``image``: the mean distance from a patch to those it
        looks at, weighted by attention, CLS left out. Source: Dosovitskiy et al. 2021, figure 7, right.
        """
        places = np.indices(self.grid).reshape(2, -1).T * np.array(self.patch)  # (N - 1, 2)
        return inside.distance(self.attentions, places)

    @property
    @_kept
    def lens(self) -> list[Prediction]:
        """What the model would have said after layer 0 (the embeddings) … L; the last is the prediction.

        The final LayerNorm and the classifier on each layer's CLS. Source: nostalgebraist 2020, logit lens.
        """
        self._class("the lens")
        every = inside.lens(self.pipe.model, self.pixel_values)
        return [self.pipe.postprocess(logits, sources=[self.source])[0] for logits in every]

    @_kept
    def heatmap(
        self, method: str = DEFAULT, *, layer: int = -1, head: int | None = None, steps: int = 32
    ) -> Floats:
        """(rows, cols): how much each patch speaks for the class; below 0: against it.

        Args:
            method: ``gradient-attention``, attention that raises the class's logit, through all layers to CLS
                (Chefer et al. 2021); ``occlusion``, what graying the patch costs the logit;
                ``integrated-gradients``, what it adds from gray to the image; ``attention`` and ``rollout``,
                what CLS looks at, whatever the class.
            layer, head: for ``attention``, as in :meth:`attention`.
            steps: for ``integrated-gradients``: between gray and the image.

        Raises ArgumentError, also where captum is missing; CheckpointError for a backbone.
        """
        if method not in METHODS:
            raise ArgumentError(f"method is {method!r}; use {', '.join(METHODS)}")
        if method != "attention" and (layer, head) != (-1, None):
            raise ArgumentError(f"layer and head are for method 'attention', not {method!r}")
        if method == "attention":
            return self.attention(layer, head)
        if method == "rollout":
            return self.rollout()
        given = self.pipe.model, self.pixel_values, self._class(method)
        if method == "gradient-attention":
            return inside.gradient_attention(*given).reshape(self.grid)
        if method == "occlusion":
            return inside.occlusion(*given, *self._gray()).reshape(self.grid)
        return inside.integrated_gradients(*given, *self._gray(), steps).reshape(self.grid)

    @_kept
    def faithfulness(self, method: str = DEFAULT, **of: Any) -> Faithfulness:
        """How far to trust a map, by this image, beside a random map and the image's centre.

        The arguments are those of :meth:`heatmap`.
        """
        return self._measured(method, self.heatmap(method, **of), *map(self.yardstick, ("random", "centre")))

    @_kept
    def yardstick(self, name: str) -> Faithfulness:
        """The faithfulness of ``"random"``, the same for the same image, or of ``"centre"``."""
        seed = zlib.crc32(self.image.tobytes())
        rows, cols = ((np.arange(count) + 0.5) / count - 0.5 for count in self.grid)
        centre = -np.hypot(rows[:, None], cols)
        return self._measured(
            name, centre if name == "centre" else np.random.default_rng(seed).random(self.grid)
        )

    def _measured(self, name: str, scores: Any, *yardsticks: Faithfulness) -> Faithfulness:
        index = self._class("faithfulness")

        def probability(images: Tensor) -> Floats:
            return inside.to_numpy(self.pipe.probabilities(self.pipe.forward(images))[:, index])

        return measure(name, scores.ravel(), probability, self.pixel_values, *self._gray(), *yardsticks)

    def _class(self, what: str) -> int:
        """The index of the class that is explained."""
        if self.target is None:
            raise CheckpointError(
                f"{self.pipe.name}: {what} needs a classifier; of a backbone there is attention or rollout"
            )
        return self.target.index

    def _gray(self) -> tuple[Tensor, Indices]:
        """What the model takes for a gray image, (1, 3, H, W), and the patch of each pixel, (H, W)."""
        gray = self.pipe.preprocess(Image.new("RGB", self.image.size, "gray")).to(self.pixel_values)
        row, col = (
            np.minimum(np.arange(pixels) // size, count - 1)
            for pixels, size, count in zip(gray.shape[2:], self.patch, self.grid, strict=True)
        )
        return gray, row[:, None] * self.grid[1] + col

    def evidence(self, method: str = DEFAULT, **of: Any) -> str:
        """In words, which patches it lies in; the arguments are those of :meth:`heatmap`."""
        return figure.evidence(self.heatmap(method, **of))

    def figure(
        self,
        method: str = DEFAULT,
        *,
        all_heads: bool = False,
        lens: bool = False,
        faithfulness: bool = False,
        **of: Any,
    ) -> Figure:
        """The image as the model saw it, the map over it, and in small print how far to trust that.

        Args:
            method, of: those of :meth:`heatmap`.
            all_heads, lens, faithfulness: add what CLS looks at in every head, the lens, the curves.
        """
        return figure.draw(self, method, of, all_heads, lens, faithfulness)

    def save(self, path: str | Path, method: str = DEFAULT, **options: Any) -> None:
        """Write a ``.png`` (the figure), ``.html`` (a page, self-contained), ``.json`` or ``.npz`` (arrays).

        ``options``: those of :meth:`figure`; a page has all that they add. Raises ArgumentError, OutputError.
        """
        figure.save(self, path, method, **options)


def explain(
    pipe: ViTPipeline, pixel_values: Tensor, source: str = "", target: str | int | None = None
) -> Explanation:
    """One preprocessed image, (1, 3, H, W), explained. ``target``: a class's label or index; None: predicted.

    Raises ArgumentError.
    """
    pixel_values = pixel_values.to(pipe.device)
    height, width = pair(pipe.model.config.patch_size)
    grid = pixel_values.shape[2] // height, pixel_values.shape[3] // width
    prediction = score = None
    if pipe.labels:
        logits = pipe.forward(pixel_values)
        prediction = pipe.postprocess(logits, sources=[source])[0]
        index = prediction.index if target is None else find_class(pipe.labels, target)
        score = next(c for c in pipe.postprocess(logits, len(pipe.labels))[0].top if c.index == index)
    image = seen_image(pipe.processor, pixel_values)
    return Explanation(pipe, pixel_values, image, source, prediction, score, (height, width), grid)


def find_class(labels: Sequence[str], target: str | int) -> int:
    """The index of a class by its label, by one of the names in it, or by its index. Raises ArgumentError."""
    names = [{label, *label.split(", ")} for label in labels]
    found = [index for index, own in enumerate(names) if target in own]
    if not found and str(target).isdecimal() and int(target) < len(labels):
        return int(target)
    if len(found) == 1:
        return found[0]
    near = found or difflib.get_close_matches(str(target), set().union(*names)) or labels[:3]
    what = f"{len(found)} classes are called" if found else "no class is called"
    raise ArgumentError(f"{what} {target!r}; give a label or an index, such as {', '.join(map(str, near))}")
