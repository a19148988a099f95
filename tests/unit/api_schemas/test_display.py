"""What report and page read out of metrics."""

import pytest

from api_schemas.enums import Part
from api_schemas.results.display import allowed, goal
from api_schemas.results.metrics import Scores
from api_schemas.results.parts import left
from tests.support.jobs.sample_metrics import measured_step


def test_the_worst_that_is_allowed_is_below_a_rate_of_hits_and_above_one_of_errors() -> None:
    assert allowed(Scores(samples=1, accuracy=0.9), 0.02) == pytest.approx(0.88)
    assert allowed(Scores(samples=1, word_error_rate=0.1), 0.02) == pytest.approx(0.12)
    assert allowed(Scores(samples=0), 0.02) is None


def test_a_goal_is_the_targets_and_before_there_is_one_the_sparsity() -> None:
    assert goal(measured_step(2)) == (0.24, 0.25)
    assert goal(measured_step(0)) == (0.0, 0.0)


def test_what_is_left_is_a_share_of_the_originals() -> None:
    steps = [measured_step(step) for step in range(3)]
    found = dict(left(steps, (Part.ATTENTION,)))
    assert list(found) == ["attention parameters", "all parameters", "FLOPs of an input", "file"]
    assert found["attention parameters"] == (1.0, 0.875, 0.75)
    assert found["all parameters"] == (1.0, 0.95, 0.9)
    # Counts that the original has none of are left out.
    assert "feed-forward parameters" not in dict(left(steps, tuple(Part)))
