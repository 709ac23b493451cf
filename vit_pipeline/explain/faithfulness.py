"""How far to trust a map: gray what it calls important, and see whether the class's probability falls.

The yardsticks are a random map and the image's centre, which is where objects are: a map that beats only the
random one has found out nothing about the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, check_installed
from .inside import BATCH, Floats, Indices

if TYPE_CHECKING:
    from .explanation import Explanation

STEPS = 16  #: of a curve, where there are as many patches
GROUPS = range(5, 11)  #: of patches, for SaCo: as many as give groups of equal size, as in the paper


@dataclass(frozen=True)
class Faithfulness:
    """How one map does on one image, in terms of the probability of the class."""

    method: str
    deletion: Floats  #: (S + 1,): while patches are grayed in S steps, the highest score first
    insertion: Floats  #: (S + 1,): while they are added to a gray image in that order
    deletion_auc: float  #: area under the curve, 0 to 1; lower is better
    insertion_auc: float  #: higher is better
    gain: float  #: insertion AUC − deletion AUC; higher is better, about 0 for a random map
    saco: float  #: -1 to 1: whether scores rank groups of patches as graying them does
    random: Faithfulness | None = None  #: the same of a random map
    centre: Faithfulness | None = None  #: the same of the image's centre


def measure(
    method: str,
    scores: Floats,
    probability: Callable[[Tensor], Floats],
    image: Tensor,
    gray: Tensor,
    patches: Indices,
    *yardsticks: Faithfulness,
) -> Faithfulness:
    """Deletion and insertion (Petsiuk et al. 2018) and SaCo (Wu et al., CVPR 2024) of one map.

    Args:
        scores: (N,), one a patch.
        probability: images (B, 3, H, W) → the class's probability in each, (B,).
        image, gray: (1, 3, H, W). ``patches``: (H, W), the patch of each pixel.
    """
    order = np.argsort(-scores, kind="stable")  # (N,), the highest first
    rank = np.argsort(order)
    steps = min(STEPS, len(order))
    groups = max((k for k in GROUPS if len(order) % k == 0), default=min(GROUPS[-1], len(order)))
    first = rank < np.linspace(0, len(order), steps + 1).round()[:, None]  # (S + 1, N)
    outside = rank * groups // len(order) != np.arange(groups)[:, None]  # (K, N)
    kept = torch.from_numpy(np.concatenate([~first, first, outside])[:, None, patches])  # (…, 1, H, W)
    images = (torch.where(some.to(gray.device), image, gray) for some in torch.split(kept, BATCH))
    found = np.concatenate([probability(some) for some in images])
    (deletion, insertion), without = found[: 2 * steps + 2].reshape(2, -1), found[2 * steps + 2 :]
    below, above = (float(np.trapezoid(curve) / steps) for curve in (deletion, insertion))
    importance = np.array([scores[~some].mean() for some in outside])
    agreement = saco(importance, deletion[0] - without)
    return Faithfulness(method, deletion, insertion, below, above, above - below, agreement, *yardsticks)


def saco(importance: Floats, drop: Floats) -> float:
    """Of K groups of patches, the pairs where the more important one costs more probability when grayed, less
    the pairs where it does not, each weighted by its difference in importance: -1 to 1. ``importance`` falls.
    """
    one, other = np.triu_indices(len(drop), 1)
    weights = importance[one] - importance[other]
    agree = np.where(drop[one] >= drop[other], 1, -1)
    return float((weights * agree).sum() / weights.sum()) if weights.sum() > 0 else 0.0


@dataclass(frozen=True)
class Row:
    """One method on many images. Pairs: the mean, and half of its 95 % interval (Student's t)."""

    method: str
    images: int
    deletion_auc: tuple[float, float]
    gain: tuple[float, float]  #: insertion AUC − deletion AUC
    over_centre: tuple[float, float]  #: its gain − the centre's, image by image
    saco: tuple[float, float]
    beats_random: float  #: the share of images where its deletion AUC is below that of a random map
    seconds: float  #: for one map


def evaluate(explanations: Iterable[Explanation], methods: Sequence[str]) -> list[Row]:
    """Which method to trust: measured on many images, the most faithful first, random and centre among them.

    Raises ArgumentError for fewer than two images, or without scipy; CheckpointError for a backbone.
    """
    check_installed("scipy", "measuring methods")
    found: dict[str, list[Faithfulness]] = {method: [] for method in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for e in explanations:
        for method in methods:
            started = perf_counter()
            e.heatmap(method)
            seconds[method] += perf_counter() - started
            found[method].append(e.faithfulness(method))
        for name in ("centre", "random"):
            found.setdefault(name, []).append(e.yardstick(name))
    count = len(found.get("centre", []))
    if count < 2:
        raise ArgumentError(f"{count} images to measure on; intervals need two or more")
    deletion = {name: np.array([one.deletion_auc for one in of]) for name, of in found.items()}  # (n,)
    gain = {name: np.array([one.gain for one in of]) for name, of in found.items()}
    rows = [
        Row(
            name,
            count,
            _interval(deletion[name]),
            _interval(gain[name]),
            _interval(gain[name] - gain["centre"]),
            _interval(np.array([one.saco for one in of])),
            float((deletion[name] < deletion["random"]).mean()),
            seconds.get(name, 0.0) / count,
        )
        for name, of in found.items()
    ]
    return sorted(rows, key=lambda row: -row.gain[0])


def _interval(values: Floats) -> tuple[float, float]:
    from scipy.stats import t

    wide = t.ppf(0.975, len(values) - 1)
    return float(values.mean()), float(wide * values.std(ddof=1) / len(values) ** 0.5)
