"""Which share each step aims at."""

from itertools import pairwise

import pytest

from api_schemas.results.metrics import DropSearch, Scores, TriedCut
from checkpoints.planning.feasibility import max_share, smallest_cut
from checkpoints.planning.schedule import confirmation_targets, step_targets
from tests.unit.engine.pruning.selection.selecting import COUNTED, DENSE, SHAPE, pruning


@pytest.mark.parametrize("kind", [*COUNTED, "latency"])
def test_linear_steps_are_equal(kind):
    spec = pruning(0.3, kind, granularity="ragged", schedule={"steps": 4})
    assert step_targets(SHAPE, DENSE, spec) == pytest.approx((0.075, 0.15, 0.225, 0.3))


def test_cubic_steps_take_most_at_first():
    """By hand, Zhu and Gupta eq. 1 with s_i = 0 and s_f = 0.64: 0.64·(1 − (1 − k/4)³)."""
    spec = pruning(0.64, granularity="ragged", schedule={"steps": 4, "shape": "cubic"})
    assert step_targets(SHAPE, DENSE, spec) == pytest.approx((0.37, 0.56, 0.63, 0.64))


def test_by_default_there_is_a_step_for_every_ten_percent_of_the_target():
    assert len(step_targets(SHAPE, DENSE, pruning(0.35, "flops", granularity="ragged"))) == 4


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("shape", ["linear", "cubic"])
def test_steps_that_would_cut_nothing_more_are_left_out(kind, shape):
    spec = pruning(0.3, kind, granularity="per_head", align=8, schedule={"steps": 60, "shape": shape})
    targets = step_targets(SHAPE, DENSE, spec)
    least = smallest_cut(SHAPE, DENSE, spec, spec.target.kind)
    counts = [round(target / least) for target in targets]
    assert 1 < len(targets) < 60
    assert targets[-1] == 0.3
    assert counts[0] >= 1
    assert all(first < second for first, second in pairwise(counts))


@pytest.mark.parametrize("kind", COUNTED)
def test_of_a_bound_on_the_drop_the_one_step_is_all_that_can_go(kind):
    spec = pruning(granularity="ragged", target={"max_drop": 0.01, "of": kind})
    assert step_targets(SHAPE, DENSE, spec) == (max_share(SHAPE, DENSE, spec),)


def tried(*cuts):
    """(share, whether it held)"""
    scores = Scores(samples=1, accuracy=0.5)
    return DropSearch(
        of="flops", max_drop=0.01, reach=0.5,
        tried=[TriedCut(requested=s, achieved=s, validation=scores, drop=0.0, within=held) for s, held in cuts],
    )  # fmt: skip


def test_a_bound_is_confirmed_at_the_largest_that_held_and_then_at_less():
    spec = pruning(granularity="ragged", target={"max_drop": 0.01})
    least = smallest_cut(SHAPE, DENSE, spec, spec.target.kind)
    found = tried((0.2, True), (0.3, False), (0.25, True), (0.22, True))
    assert confirmation_targets(SHAPE, DENSE, spec, found) == pytest.approx((0.25, 0.1875, 0.125))
    # Half of one structure is none, three quarters of one are one again; of two, 1.5 and 1.
    assert confirmation_targets(SHAPE, DENSE, spec, tried((least, True))) == (least,)
    assert confirmation_targets(SHAPE, DENSE, spec, tried((2 * least, True))) == pytest.approx((2 * least, least))


def test_where_none_held_the_least_is_what_recovery_may_save():
    spec = pruning(granularity="ragged", target={"max_drop": 0.01})
    found = tried((0.2, False), (0.1, False), (0.05, False))
    assert confirmation_targets(SHAPE, DENSE, spec, found) == (0.05,)
