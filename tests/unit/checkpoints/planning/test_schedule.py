"""Which share each step aims at."""

from itertools import pairwise

import pytest

from checkpoints.planning.feasibility import smallest_cut
from checkpoints.planning.schedule import step_targets
from tests.unit.engine.pruning.selecting import COUNTED, DENSE, SHAPE, pruning


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
