"""What report and page read out of metrics."""

import pytest

from api_schemas.enums import Part
from api_schemas.results import parts
from api_schemas.results.display import allowed, goal
from api_schemas.results.metrics import DropSearch, Scores, TriedCut
from api_schemas.results.parts import left
from api_schemas.spec.pruning import Pruning
from secateur.terminal.formatting import target
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
    assert list(found) == ["attention parameters", "all parameters", "FLOPs per input", "file"]
    assert found["attention parameters"] == (1.0, 0.875, 0.75)
    assert found["all parameters"] == (1.0, 0.95, 0.9)
    # Counts that the original has none of are left out.
    assert "feed-forward parameters" not in dict(left(steps, tuple(Part)))


def test_what_was_tried_for_a_bound_is_said_in_a_sentence() -> None:
    def cut(share: float, drop: float, within: bool) -> TriedCut:
        return TriedCut(
            requested=share, achieved=share, validation=Scores(samples=1, accuracy=0.9), drop=drop, within=within
        )

    def said(*tried: TriedCut) -> str:
        return parts.found_in_words(DropSearch(of="latency", max_drop=0.01, reach=0.5, tried=tried))

    found = said(cut(0.25, -0.001, True), cut(0.375, 0.02, False))
    assert (
        "Of 2 cuts tried without recovery, the largest within the bound removes 25.00% of the original latency" in found
    )
    assert "and gains 0.10 points on validation" in found
    none = said(cut(0.25, 0.05, False), cut(0.125, 0.0167, False))
    assert "No cut of 2 tried without recovery is within the bound; the smallest removes 12.50%" in none
    assert "loses 1.67 points" in none
    pruning = Pruning.model_validate({"target": {"max_drop": 0.005, "of": "parameters"}})
    words = "the smallest model by parameters that loses no more than 0.5 points on validation"
    assert parts.goals_in_words(pruning) == words
    assert target(pruning.target) == "parameters, at most 0.5 points lost"
