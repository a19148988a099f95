"""Seconds of a job's phases from what finished ones took."""

import pytest

from api_schemas.enums import Phase
from api_schemas.results.metrics import Memory
from checkpoints.sizes.cost_model import COUNTED, JobCost, PhaseTime
from service.core.jobs.estimate import _seconds

WORK = {Phase.SCORING: 10.0, Phase.EVALUATING: 20.0, Phase.PACKAGING: 1.0}


def cost(counted: int, scoring: float) -> JobCost:
    """A job that was evaluated at two seconds a unit of work; of `scoring`, and of packaging, others."""
    phases = {
        Phase.SCORING: PhaseTime(seconds=scoring, work=1.0),
        Phase.EVALUATING: PhaseTime(seconds=8.0, work=4.0),
        Phase.PACKAGING: PhaseTime(seconds=3.0, work=1.0),
    }
    body = JobCost(
        phases=phases, outside_seconds=0.0, base=Memory(), peak=Memory(), tensor_bytes=1, counted=counted
    ).model_dump(mode="json", exclude={"counted"} if counted == 1 else None)
    return JobCost.model_validate(body)


@pytest.mark.parametrize(
    ("jobs", "scoring"),
    [
        ([cost(COUNTED, 5.0)], 50.0),
        ([cost(COUNTED, 5.0), cost(COUNTED, 7.0)], 60.0),
        # What was noted before scoring was counted as it is now does not speak for it.
        ([cost(COUNTED, 5.0), cost(1, 500.0)], 50.0),
        ([cost(1, 500.0)], 20.0),
    ],
)
def test_work_that_was_counted_another_way_is_no_speed(jobs: list[JobCost], scoring: float) -> None:
    assert _seconds(WORK, jobs) == {Phase.SCORING: scoring, Phase.EVALUATING: 40.0, Phase.PACKAGING: 3.0}
