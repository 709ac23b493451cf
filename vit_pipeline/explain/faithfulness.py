"""How far to trust a map: hide what it calls important, and see whether the class's probability falls.

The yardsticks are a random map and the image's centre, which is where objects are: a map that beats random
only has found out nothing about the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .inside import Floats
from .maps import BATCH

STEPS = 32  #: of a curve, if there are as many patches
GROUPS = 10  #: of patches, for SaCo


@dataclass(frozen=True)
class Faithfulness:
    """How one map does on one image, in terms of the probability of the class."""

    method: str
    deletion: Floats  #: (S + 1,): while the patches are grayed in S steps, the highest score first
    insertion: Floats  #: (S + 1,): while they are added to a gray image in that order
    saco: float  #: -1 to 1: how far scores are in proportion to what graying costs
    random: Faithfulness | None = None  #: the same of a random map
    centre: Faithfulness | None = None  #: the same of the distance to the image's centre

    @property
    def deletion_auc(self) -> float:
        """The area under the deletion curve, 0 to 1; lower is better."""
        return float(np.trapezoid(self.deletion) / (len(self.deletion) - 1))

    @property
    def insertion_auc(self) -> float:
        """The area under the insertion curve, 0 to 1; higher is better."""
        return float(np.trapezoid(self.insertion) / (len(self.insertion) - 1))

    @property
    def gain(self) -> float:
        """Insertion AUC less deletion AUC, -1 to 1; higher is better, a random map has about 0."""
        return self.insertion_auc - self.deletion_auc

    def to_dict(self) -> dict[str, Any]:
        """The numbers without the curves, as they stand in JSON output."""
        numbers = ("method", "deletion_auc", "insertion_auc", "gain", "saco")
        others = {"random": self.random, "centre": self.centre}
        return {name: getattr(self, name) for name in numbers} | {
            name: other.to_dict() for name, other in others.items() if other
        }


def measure(
    method: str,
    scores: Floats,
    probability: Callable[[Tensor], Floats],
    pixel_values: Tensor,
    gray: Tensor,
    patches: NDArray[np.int64],
    **yardsticks: Faithfulness,
) -> Faithfulness:
    """Deletion and insertion curves and SaCo of one map.

    Args:
        scores: (N,), one a patch.
        probability: images (B, 3, H, W) → the class's probability in each, (B,).
        pixel_values: (1, 3, H, W). ``gray``: the same of a gray image.
        patches: (H, W), the patch of each pixel.

    Source: Petsiuk et al. 2018 (RISE), deletion and insertion; Wu et al., CVPR 2024, algorithm 1, SaCo.
    """
    order = np.argsort(-scores.ravel(), kind="stable")  # (N,), highest first
    rank = np.argsort(order)
    groups = np.array_split(order, min(GROUPS, len(order)))
    steps = min(STEPS, len(order))
    first = rank < np.linspace(0, len(order), steps + 1).round()[:, None]  # (S + 1, N)
    outside = ~np.stack([np.isin(np.arange(len(order)), group) for group in groups])  # (K, N)
    kept = np.concatenate([~first, first, outside])[:, patches]  # (…, H, W)
    found = np.concatenate(
        [
            probability(torch.where(torch.from_numpy(some)[:, None].to(gray.device), pixel_values, gray))
            for some in np.array_split(kept, -(-len(kept) // BATCH))
        ]
    )
    deletion, insertion, without = np.split(found, [steps + 1, 2 * steps + 2])
    importance = [float(scores.ravel()[group].mean()) for group in groups]
    return Faithfulness(method, deletion, insertion, saco(importance, deletion[0] - without), **yardsticks)


def saco(importance: Any, drop: Any) -> float:
    """The share of pairs of groups whose order by importance is that by drop in probability, less the share of
    the others; pairs weigh as much as their importance differs. Both (K,), importance falling.
    """
    one, other = np.triu_indices(len(drop), 1)
    weights = np.subtract(*np.asarray(importance)[[one, other]])
    signs = np.where(drop[one] >= drop[other], 1, -1)
    return float((weights * signs).sum() / weights.sum()) if weights.sum() > 0 else 0.0


def centre_map(grid: tuple[int, int]) -> Floats:
    """(rows, cols): the nearer to the image's centre, the higher."""
    rows, cols = (np.arange(n) - (n - 1) / 2 for n in grid)
    return np.asarray(-np.hypot(rows[:, None] / grid[0], cols / grid[1]), np.float32)
