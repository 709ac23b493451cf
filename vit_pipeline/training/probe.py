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
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    mean, std = features.mean(axis=0, dtype=float), features.std(axis=0, dtype=float)
    std[std == 0] = 1
    scaled = (features - mean) / std  # (N, D)
    counts = np.bincount(truth)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(counts[truth] > 1))
    if len(chosen) > _ENOUGH:  # of every class two at least
        order = np.argsort(truth[chosen], kind="stable")
        places = np.concatenate([np.arange(count) for count in np.bincount(truth[chosen])])
        share = places / counts[truth[chosen][order]]
        chosen = chosen[order][(share < _ENOUGH / len(chosen)) | (places < 2)]
    model, tried = LogisticRegression(max_iter=1000), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the weakest regularisation: it is tried only
        if len(np.unique(truth[chosen])) > 1:
            folds = min(_FOLDS, int(np.unique(truth[chosen], return_counts=True)[1].min()))
            search = GridSearchCV(
                model,
                {"C": STRENGTHS},
                scoring="neg_log_loss",
                refit=False,
                cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
            ).fit(scaled[chosen], truth[chosen])
            model.set_params(C=float(search.best_params_["C"]))
            losses = -search.cv_results_["mean_test_score"]
            tried = [{"C": float(c), "loss": float(loss)} for c, loss in zip(STRENGTHS, losses, strict=True)]
        model.fit(scaled, truth)
    weights, bias = model.coef_, model.intercept_
    if len(counts) == 2:  # scikit-learn has one row then, of the second class; the other's is its negative
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / std
    return weights, bias - weights @ mean, tried
