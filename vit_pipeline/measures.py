"""The statistics of an evaluation: a function for each question that one asks of a classifier.

How many images are right: ``rate``. How well is each class known, and which are taken for each other:
``class_scores``, ``confusion``. Is a probability of 80 % right 80 times in 100, and could it be made so:
``reliability``, ``calibrate``. Is another model really better: ``compare``.

Leaves out: running a model (``evaluation``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

BINS = 15  #: of the reliability curve, as in Guo et al. 2017
FLAGGED = 0.05  #: the share of images like the evaluated ones that the energy threshold flags
ENOUGH = 100  #: images to calibrate with
#: What is kept of an image, 32 bytes, so that memory holds millions: its name's checksum, the class it shows
#: (-1: it could not be read), the class the model gives, how many classes are ahead of the right one, the log
#: probability of the given class, energy
OBSERVED = np.dtype("u4, i4, i4, i4, f8, f8")
OBSERVED.names = ("name", "truth", "predicted", "rank", "confidence", "energy")


def observe(row: Any, logits: Array, truth: int) -> None:
    """Fill a row of ``OBSERVED``, but for the name, from an image's logits (C,) and the class it shows."""
    logits = logits.astype(float)
    row["truth"], row["predicted"] = truth, logits.argmax()
    # of equal logits the first is ahead, as for argmax: where all are the same, not every class is right
    row["rank"] = (logits > logits[truth]).sum() + (logits[:truth] == logits[truth]).sum()
    row["energy"] = np.logaddexp.reduce(logits)  # log Σ exp(logits), what softmax divides by
    row["confidence"] = logits.max() - row["energy"]


@dataclass(frozen=True)
class Rate:
    """A share of some images, with an interval: 95 of 100 made like it hold the share of all such images."""

    value: float  #: 0 to 1
    low: float
    high: float
    hits: int
    images: int


def rate(hits: Array) -> Rate:
    """The share that is True, with Wilson's interval, which is sound for few images and near 0 and 1 too.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001.
    """
    count, images = int(hits.sum()), len(hits)
    z = NormalDist().inv_cdf(0.975)
    middle = (count + z**2 / 2) / (images + z**2)
    width = z / (images + z**2) * math.sqrt(count * (images - count) / images + z**2 / 4)
    return Rate(count / images, max(middle - width, 0.0), min(middle + width, 1.0), count, images)


@dataclass(frozen=True)
class ClassScores:
    """How well a model knows one class."""

    label: str
    index: int
    images: int
    precision: float  #: of the images that were given its label, the share that shows it
    recall: float  #: of the images that show it, the share that was given its label
    f1: float  #: the harmonic mean of both


def class_scores(truth: Array, predicted: Array, labels: Sequence[str]) -> tuple[ClassScores, ...]:
    """Of every class that has images. Where its label is never given, precision is 0."""
    size = len(labels)
    shown, given = np.bincount(truth, minlength=size), np.bincount(predicted, minlength=size)
    hits = np.bincount(truth[truth == predicted], minlength=size)
    return tuple(
        ClassScores(
            labels[int(i)],
            int(i),
            int(shown[i]),
            precision=float(hits[i] / max(given[i], 1)),
            recall=float(hits[i] / shown[i]),
            f1=float(2 * hits[i] / (shown[i] + given[i])),
        )
        for i in shown.nonzero()[0]
    )


@dataclass(frozen=True)
class Pair:
    """A cell of the confusion matrix."""

    truth: str
    predicted: str
    images: int
    share: float  #: of the images that show ``truth``
    indices: tuple[int, int]


def confusion(truth: Array, predicted: Array, labels: Sequence[str]) -> tuple[Pair, ...]:
    """The confusion matrix without its empty cells (of 1,000 classes it has a million), the fullest first."""
    shown = np.bincount(truth).tolist()
    cells = Counter(zip(truth.tolist(), predicted.tolist(), strict=True))
    return tuple(Pair(labels[i], labels[j], n, n / shown[i], (i, j)) for (i, j), n in cells.most_common())


@dataclass(frozen=True)
class Reliability:
    """Images in bins by the probability of their label, from 0 to 1: how often is the label right?"""

    bins: tuple[tuple[int, float, float], ...]  #: images, mean probability, share that is right
    ece: float  #: expected calibration error: the mean distance of the last two


def reliability(confidence: Array, right: Array) -> Reliability:
    """Of images whose label has a probability of about 80 %, are 80 % right? Source: Guo et al. 2017."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    images, sure, hits = (np.bincount(place, weights, BINS) for weights in (None, confidence, right))
    ece = np.abs(sure - hits).sum() / len(place)  # Σ images / all · |sure / images - hits / images|
    count = np.maximum(images, 1)
    columns = images.tolist(), (sure / count).tolist(), (hits / count).tolist()
    return Reliability(tuple(zip(*columns, strict=True)), float(ece))


def fit_temperature(logits: Array, truth: Array) -> float:
    """The T for which softmax(logits / T) makes ``truth`` the likeliest. Source: Guo et al. 2017.

    1 where no image is wrong: then a smaller T is always better, and none the best.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:  # the mean negative log-likelihood
        scaled = logits / np.exp(log_temperature)  # (N, C)
        return float((np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(truth)), truth]).mean())

    if (logits.argmax(axis=1) == truth).all():
        return 1.0
    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


@dataclass(frozen=True)
class Calibration:
    """Fitted on one half of the images; ``before``, ``after`` and ``flagged`` are of the other half."""

    temperature: float  #: to divide logits by; above 1: the model is too sure of itself
    energy_threshold: float  #: of log Σ exp(logits) at temperature 1; an image below it is flagged
    seed: int  #: draws the half
    fitted_on: int  #: images
    before: Reliability
    after: Reliability  #: at the temperature
    flagged: Rate


def calibrate(rows: Array, logits: Mapping[int, Array], seed: int) -> Calibration | None:
    """A temperature and an energy threshold for a model; None where there are too few images.

    Args:
        rows: of ``OBSERVED``, one for each image.
        logits: place in ``rows`` → logits (C,), of all images that could be read, or of some.
        seed: draws the half.

    Source: Guo et al. 2017 (temperature); Liu et al. 2020 (energy).
    """
    read = rows["truth"] >= 0
    if read.sum() < ENOUGH:
        return None
    half = np.random.default_rng(seed).permutation(len(rows)) % 2 == 0
    threshold = float(np.quantile(rows["energy"][read & half], FLAGGED))
    places = np.array([*logits])
    table, truth, fit = np.stack([*logits.values()]).astype(float), rows["truth"][places], half[places]
    temperature = fit_temperature(table[fit], truth[fit])

    def check(scaled: Array) -> Reliability:
        confidence = np.exp(scaled.max(axis=1) - np.logaddexp.reduce(scaled, axis=1))
        return reliability(confidence, scaled.argmax(axis=1) == truth[~fit])

    before, after = check(table[~fit]), check(table[~fit] / temperature)
    flagged = rate(rows["energy"][read & ~half] < threshold)
    return Calibration(temperature, threshold, seed, int(fit.sum()), before, after, flagged)


@dataclass(frozen=True)
class Comparison:
    """Two models on the images that both could read."""

    model: str  #: the other one
    top1: Rate  #: of the other one
    only_this: int  #: images that only the evaluated model is right about
    only_other: int
    difference: tuple[float, float, float]  #: of top-1, this minus other; from, to: its 95 % interval
    p_value: float  #: how often chance makes such a difference between models that are equally good


def compare(this: Array, other: Array, name: str) -> Comparison | None:
    """Which of two models is better? Rows of ``OBSERVED`` of the same images; None: none that both read.

    Whether two intervals overlap does not tell: both models find the same images hard. What tells is images
    that only one of them is right about: of two equally good models each has half of these, as coins fall.

    Source: McNemar 1947, in its exact form; for the interval, Agresti and Min 2005.
    """
    from scipy.stats import binomtest

    both = (this["truth"] >= 0) & (other["truth"] >= 0)
    if not both.any():
        return None
    right, other_right = this["rank"][both] == 0, other["rank"][both] == 0
    only_this, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    tosses = only_this + only_other
    images = len(right) + 2  # for the interval, half an image is added to each cell of the 2 × 2 table
    middle = (only_this - only_other) / images
    width = float(1.96 * np.sqrt(((tosses + 1) / images - middle**2) / images))
    difference = ((only_this - only_other) / len(right), middle - width, middle + width)
    p_value = float(binomtest(only_this, tosses).pvalue) if tosses else 1.0
    return Comparison(name, rate(other_right), only_this, only_other, difference, p_value)
