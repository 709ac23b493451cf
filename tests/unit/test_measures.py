"""The statistics: against scikit-learn and scipy, and on cases that one can work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vit_pipeline import measures

metrics = pytest.importorskip("sklearn.metrics")
special = pytest.importorskip("scipy.special")
LABELS = [f"class {index}" for index in range(7)]


def drawn(seed: int, images: int = 300, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C), half of them for the right class, and the right classes; one class has no image."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes - 1, images)
    logits = draw.normal(size=(images, classes)).astype(np.float32) * 2
    logits[np.arange(images), truth] += 2
    return logits, truth


def observed(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    rows = np.zeros(len(truth), measures.OBSERVED)
    for row, values, index in zip(rows, logits, truth, strict=True):
        if index < 0:
            row["truth"] = -1
        else:
            measures.observe(row, values, int(index))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_of_an_image(seed: int) -> None:
    logits, truth = drawn(seed)
    rows = observed(logits, truth)
    log_softmax = special.log_softmax(logits.astype(float), axis=1)
    assert rows["truth"].tolist() == truth.tolist()
    assert rows["predicted"].tolist() == logits.argmax(axis=1).tolist()
    np.testing.assert_allclose(rows["confidence"], log_softmax.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(rows["energy"], special.logsumexp(logits.astype(float), axis=1))
    for k in (1, 2, 5):
        expected = metrics.top_k_accuracy_score(truth, logits, k=k, labels=range(7))
        assert (rows["rank"] < k).mean() == pytest.approx(expected)


def test_of_equal_logits_only_the_first_is_the_answer() -> None:
    rows = observed(np.zeros((7, 7), np.float32), np.arange(7))
    assert rows["rank"].tolist() == [*range(7)]
    assert rows["predicted"].tolist() == [0] * 7
    huge = observed(np.array([[3e38, -3e38, 0.0]], np.float32), np.array([1]))[0]
    assert (huge["rank"], huge["confidence"]) == (2, 0.0)


def test_wilsons_interval() -> None:
    found = measures.rate(np.arange(10_000) < 8391)
    assert (found.hits, found.images, found.value) == (8391, 10_000, 0.8391)
    assert (round(found.low, 4), round(found.high, 4)) == (0.8318, 0.8462)
    z, n = 1.959964, 5
    for hits in (0, 5):  # it has a width at the ends too
        found, p = measures.rate(np.arange(n) < hits), hits / n
        middle, half = (p + z * z / 2 / n), z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
        assert found.low == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
        assert found.high == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_class_scores_are_those_of_scikit_learn(seed: int) -> None:
    logits, truth = drawn(seed, images=40)
    predicted = logits.argmax(axis=1)
    predicted[predicted == 2] = 6  # a label that is never given, one that no image has
    found = measures.class_scores(truth, predicted, LABELS)
    present = np.unique(truth).tolist()
    expected = metrics.precision_recall_fscore_support(truth, predicted, labels=present, zero_division=0)
    assert [scores.index for scores in found] == present
    assert [scores.label for scores in found] == [LABELS[index] for index in present]
    for name, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        np.testing.assert_allclose([getattr(scores, name) for scores in found], values, rtol=1e-12)


def test_confusion_is_that_of_scikit_learn() -> None:
    logits, truth = drawn(1)
    predicted = logits.argmax(axis=1)
    pairs = measures.confusion(truth, predicted, LABELS)
    matrix = np.zeros((7, 7), int)
    for pair in pairs:
        matrix[pair.indices] = pair.images
        assert (pair.truth, pair.predicted) == tuple(LABELS[index] for index in pair.indices)
        assert pair.share == pair.images / (truth == pair.indices[0]).sum()
    assert (matrix == metrics.confusion_matrix(truth, predicted, labels=range(7))).all()
    assert [pair.images for pair in pairs] == sorted((pair.images for pair in pairs), reverse=True)


def test_reliability_by_hand() -> None:
    """Two images at 60 %, one of them right; two at 100 %, both right."""
    found = measures.reliability(np.array([0.61, 0.63, 1.0, 1.0]), np.array([True, False, True, True]))
    assert len(found.bins) == 15
    assert found.bins[9] == (2, 0.62, 0.5)
    assert found.bins[14] == (2, 1.0, 1.0)
    assert sum(images for images, _, _ in found.bins) == 4
    assert found.ece == pytest.approx(0.5 * 0.12)


def test_ece_by_its_definition() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.2, 1, 500)
    right = draw.uniform(size=500) < confidence**2
    total = 0.0
    for start in np.arange(15) / 15:
        inside = (confidence >= start) & (confidence < start + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert measures.reliability(confidence, right).ece == pytest.approx(total)


def test_the_temperature_is_found() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 5)) * 2
    truth = (logits + draw.gumbel(size=logits.shape)).argmax(axis=1)  # as softmax(logits) draws it
    assert measures.fit_temperature(logits, truth) == pytest.approx(1, abs=0.05)
    fitted = measures.fit_temperature(3 * logits, truth)
    assert fitted == pytest.approx(3 * measures.fit_temperature(logits, truth), rel=1e-3)
    best = metrics.log_loss(truth, special.softmax(3 * logits / fitted, axis=1))
    for factor in (0.98, 1.02):
        assert best < metrics.log_loss(truth, special.softmax(3 * logits / fitted / factor, axis=1))
    assert measures.fit_temperature(np.eye(5), np.arange(5)) == 1.0


def test_calibration_is_fitted_on_one_half_and_checked_on_the_other() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(2000, 5)) * 2
    truth = (logits + draw.gumbel(size=logits.shape)).argmax(axis=1)
    logits, truth = 3 * logits, np.where(np.arange(2000) % 50 == 0, -1, truth)  # some could not be read
    rows = observed(logits, truth)
    kept = {place: logits[place] for place in np.flatnonzero(truth >= 0).tolist()}
    found = measures.calibrate(rows, kept, seed=0)
    assert found is not None
    half = np.random.default_rng(0).permutation(2000) % 2 == 0
    fit, check = (truth >= 0) & half, (truth >= 0) & ~half
    assert found.fitted_on == fit.sum()
    assert found.temperature == pytest.approx(measures.fit_temperature(logits[fit], truth[fit]), rel=1e-9)
    assert found.after.ece < found.before.ece / 2
    confidence = np.exp(rows["confidence"][check])
    assert found.before.ece == pytest.approx(
        measures.reliability(confidence, logits[check].argmax(axis=1) == truth[check]).ece
    )
    assert (rows["energy"][fit] < found.energy_threshold).mean() == pytest.approx(0.05, abs=0.001)
    assert found.flagged == measures.rate(rows["energy"][check] < found.energy_threshold)
    assert 0.02 < found.flagged.value < 0.08
    assert measures.calibrate(rows, kept, seed=0) == found != measures.calibrate(rows, kept, seed=1)
    assert measures.calibrate(rows[:101], {0: logits[0]}, seed=0) is None


def test_mcnemar() -> None:
    """Of 100 images 60 are right for both, 10 only for the other, 1 only for this one."""
    this, other = np.zeros((2, 102), measures.OBSERVED)
    this["rank"][:39] = 1
    other["rank"][10:40] = 1
    other["rank"][10:39] = 3
    this["truth"][100], other["truth"][101] = -1, -1  # not read by one of them
    found = measures.compare(this, other, "the other")
    assert found is not None
    assert (found.only_this, found.only_other, found.model) == (1, 10, "the other")
    assert (found.top1.hits, found.top1.images) == (70, 100)
    assert found.p_value == pytest.approx(2 * (1 + 11) / 2**11)
    assert found.difference[0] == pytest.approx(-0.09)
    deviation = math.sqrt((12 - 9**2 / 102) / 102**2)
    assert found.difference[1:] == pytest.approx((-9 / 102 - 1.96 * deviation, -9 / 102 + 1.96 * deviation))
    swapped = measures.compare(other, this, "")
    assert swapped is not None
    assert (swapped.p_value, swapped.difference[0]) == (found.p_value, -found.difference[0])


def test_models_that_do_not_differ_and_images_that_none_read() -> None:
    rows = np.zeros(50, measures.OBSERVED)
    found = measures.compare(rows, rows, "itself")
    assert found is not None
    assert (found.p_value, found.difference[0]) == (1.0, 0)
    assert found.difference[1] < 0 < found.difference[2]
    unread = rows.copy()
    unread["truth"] = -1
    assert measures.compare(rows, unread, "") is None
