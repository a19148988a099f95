"""Metrics against scikit-learn, scipy, torchaudio, and against formulas written out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import average_precision_score, f1_score
from torchaudio.functional import edit_distance as torchaudio_distance

from worker.engine.tasks.metrics import (
    average_precision,
    edit_distance,
    error_rate,
    macro_f1,
    mean_average_precision,
    ranks,
    spearman,
)


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


@given(st.text("abc ", max_size=12), st.text("abc ", max_size=12))
@settings(deadline=None, max_examples=200)
def test_edit_distance_is_torchaudios(given_text: str, wanted: str) -> None:
    assert edit_distance(given_text, wanted) == torchaudio_distance(given_text, wanted)
    assert edit_distance(given_text.split(), wanted.split()) == torchaudio_distance(given_text.split(), wanted.split())


def test_error_rates_are_over_everything_that_was_wanted() -> None:
    assert error_rate([("ab", "abc"), ("xyz", "x")]) == pytest.approx(3 / 4)
    assert error_rate([("ab", "")]) is None


@pytest.mark.parametrize("classes", [2, 4, 30])
def test_macro_f1_is_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(classes)
    predicted, true = random.integers(0, classes, (2, 40))
    assert macro_f1(predicted, true) == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0))


def test_rank_correlation_is_scipys_with_ties() -> None:
    random = np.random.default_rng(0)
    for levels in (3, 1000):
        first, second = random.integers(0, levels, (2, 50)).astype(float)
        assert ranks(first).tolist() == rankdata(first).tolist()
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman(np.ones(4), np.arange(4.0)) is None
    assert spearman(np.zeros(0), np.zeros(0)) is None
