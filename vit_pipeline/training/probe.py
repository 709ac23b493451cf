"""A linear classifier on features that stay as they are: logistic regression, as a model's head.

Features are standardised for the fit, and the standardisation is folded into the head's weights, exactly.
Leaves out: the features (``data``).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

STRENGTHS = 10.0 ** np.arange(-5, 3)  #: of C, the inverse of the regularisation
_FOLDS, _ENOUGH = 5, 5_000  # images: more of them do not choose another C, and take long


def fit_head(features: Array, truth: Array, seed: int) -> tuple[Array, Array, list[dict[str, float]]]:
    """Weights (C, D) and bias (C,) of the head, in float64, and the score of each C that was tried.

    C is the one with the lowest log loss in a stratified cross-validation over five folds (fewer where a
    class has fewer images); classes with a single image take no part in that.

    Args:
        features: (N, D).
        truth: (N,), every class from 0 to C - 1 at least once.
        seed: draws the folds.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    mean, std = features.mean(axis=0, dtype=float), features.std(axis=0, dtype=float)
    std[std == 0] = 1
    scaled = (features - mean) / std  # (N, D)
    counts = np.bincount(truth)
    model, tried = LogisticRegression(max_iter=1000), list[dict[str, float]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the weakest regularisation
        if (counts > 1).sum() > 1:
            chosen = _some(truth, counts, seed)
            folds = min(_FOLDS, int(np.unique(truth[chosen], return_counts=True)[1].min()))
            search = LogisticRegressionCV(
                Cs=STRENGTHS,
                l1_ratios=(0,),
                cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
                scoring="neg_log_loss",
                max_iter=1000,
                refit=False,
                use_legacy_attributes=False,
            ).fit(scaled[chosen], truth[chosen])
            losses = -search.scores_.mean(axis=0)[0]  # of (folds, 1, C's)
            tried = [{"C": float(c), "loss": float(loss)} for c, loss in zip(STRENGTHS, losses, strict=True)]
            model.set_params(C=STRENGTHS[losses.argmin()])
        model.fit(scaled, truth)
    weights, bias = model.coef_, model.intercept_
    if len(counts) == 2:  # scikit-learn has one row then, of the second class; the other's is its negative
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / std
    return weights, bias - weights @ mean, tried


def _some(truth: Array, counts: Array, seed: int) -> Array:
    """Places of images to choose C on: at most about ``_ENOUGH``, two at least of each class that has two."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(counts[truth] > 1))
    order = order[np.argsort(truth[order], kind="stable")]
    number = np.concatenate([np.arange(count) for count in counts if count > 1])  # within its class
    kept: Array = (number / counts[truth[order]] < _ENOUGH / len(order)) | (number < 2)
    return order[kept]
