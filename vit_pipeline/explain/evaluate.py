"""Which method to trust: faithfulness measured on many images, beside random and the image's centre.

An image that cannot be read does not stop the others. Leaves out how one map is measured (``faithfulness``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import engine
from ..errors import ArgumentError, VitPipelineError
from ..sources import find_images
from .explanation import METHODS, explain
from .faithfulness import Faithfulness

if TYPE_CHECKING:
    from ..pipeline import ViTPipeline

YARDSTICKS = ("centre", "random")


@dataclass(frozen=True)
class Row:
    """A method's means over the images; each ``…_ci`` is half of the 95 % interval (1.96 s/√n)."""

    method: str
    images: int
    deletion_auc: float
    insertion_auc: float
    gain: float  #: insertion AUC less deletion AUC
    gain_ci: float
    over_centre: float  #: its gain less that of the centre, image by image
    over_centre_ci: float
    over_random: float  #: the share of images where its deletion AUC is below that of a random map
    saco: float
    saco_ci: float
    seconds: float  #: for one map

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output."""
        return asdict(self)


def evaluate(
    sources: str | Path | Iterable[Any],
    pipe: ViTPipeline,
    methods: Sequence[str] = METHODS,
    *,
    on_error: Callable[[VitPipelineError], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Row]:
    """Measure ``methods`` on images, the predicted class explained in each; the most faithful first.

    Args:
        sources: folders, globs, files, URLs, lists: see :func:`vit_pipeline.sources.find_images`. Of images in
            a folder that is named after a class, only those that the model gets right are measured.
        methods: some of :data:`METHODS`.
        on_error: called for an image that cannot be read, which is left out; None: its error is raised.
        progress: called after each image with how many are measured.

    Raises ArgumentError where fewer than two images are measured; CheckpointError for a backbone.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ArgumentError(f"method is {unknown[0]!r}; use {', '.join(METHODS)}")
    found: dict[str, list[Faithfulness]] = {name: [] for name in (*methods, *YARDSTICKS)}
    seconds = dict.fromkeys(found, 0.0)
    items = find_images([sources] if isinstance(sources, str | Path) else sources)
    explained = engine.run(
        items, pipe.preparer(), lambda pixels, names: [explain(pipe, pixels, names[0])], batch_size=1
    )
    for ((name, e),) in explained:
        if isinstance(e, VitPipelineError):
            if on_error is None:
                raise e
            on_error(e)
        elif (folder := Path(name).parent.name) not in pipe.labels or folder == e.label:
            for method in methods:
                started = time.perf_counter()
                e.heatmap(method)
                seconds[method] += time.perf_counter() - started
                found[method].append(e.faithfulness(method))
            found["centre"].append(e.yardstick("centre"))
            found["random"].append(e.yardstick("random"))
            if progress is not None:
                progress(len(found["centre"]))
    count = len(found["centre"])
    if count < 2:
        raise ArgumentError(f"{count} images can be measured; an interval needs two or more")
    rows = (
        _row(method, of, found["centre"], found["random"], seconds[method]) for method, of in found.items()
    )
    return sorted(rows, key=lambda row: -row.gain)


def _row(
    method: str,
    own: list[Faithfulness],
    centre: list[Faithfulness],
    random: list[Faithfulness],
    seconds: float,
) -> Row:
    deletion = np.array([one.deletion_auc for one in own])  # (n,)
    gain = np.array([one.gain for one in own])
    over_centre = gain - [one.gain for one in centre]
    saco = np.array([one.saco for one in own])
    better = deletion < [one.deletion_auc for one in random]
    insertion = float((gain + deletion).mean())
    numbers = (number for values in (gain, over_centre) for number in (values.mean(), _interval(values)))
    return Row(
        method,
        len(own),
        deletion.mean(),
        insertion,
        *numbers,
        better.mean(),
        saco.mean(),
        _interval(saco),
        seconds / len(own),
    )


def _interval(values: Any) -> float:
    return float(1.96 * values.std(ddof=1) / len(values) ** 0.5)
