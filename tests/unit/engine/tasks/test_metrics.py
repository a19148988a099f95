"""Metrics against scikit-learn and against formulas written out."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from worker.engine.tasks.metrics import average_precision, mean_average_precision


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_is_scikit_learns_with_ties(levels: int) -> None:
    random = np.random.default_rng(levels)
    for _ in range(50):
        scores = random.integers(0, levels, size=40).astype(np.float32)
        targets = random.random(40) < 0.2
        targets[random.integers(40)] = True
        expected = average_precision_score(targets, scores)
        assert average_precision(scores, targets) == pytest.approx(expected, abs=1e-12)


def test_average_precision_ignores_the_order_of_equal_scores() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.1])
    for targets in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]):
        assert average_precision(scores, np.array(targets)) == pytest.approx(1 / 3)


def test_mean_average_precision_leaves_out_classes_without_positives() -> None:
    random = np.random.default_rng(0)
    scores, targets = random.normal(size=(60, 4)), (random.random((60, 4)) < 0.3).astype(np.float32)
    targets[:, 2] = 0
    kept = [0, 1, 3]
    expected = average_precision_score(targets[:, kept], scores[:, kept], average="macro")
    assert mean_average_precision(scores, targets) == pytest.approx(expected, abs=1e-12)


def test_no_positive_at_all_has_no_average_precision() -> None:
    assert math.isnan(average_precision(np.ones(3), np.zeros(3)))
    assert math.isnan(mean_average_precision(np.ones((3, 2)), np.zeros((3, 2))))
