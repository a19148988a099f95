"""Seconds of a job's phases from what finished ones took."""

import pytest

from api_schemas.enums import Modality, Phase
from api_schemas.results.metrics import Memory
from checkpoints.families import ALL_FAMILIES, Family
from checkpoints.families.audio.waveform_encoder import MAX_SECONDS
from checkpoints.sizes.cost_model import COUNTED, JobCost, PhaseTime
from service.core.jobs.estimate import _seconds
from service.core.jobs.first_estimate import ANY_LENGTH, OF_ANY_LENGTH, _of_recordings
from worker.engine.data.featurizers import _EXTRACTORS
from worker.engine.data.featurizers.waveforms import Waveforms

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


OF_RECORDINGS = [family for family in ALL_FAMILIES if family.modality is Modality.AUDIO]


@pytest.mark.parametrize("family", OF_RECORDINGS, ids=lambda family: family.name)
def test_recordings_have_their_own_length_where_the_engine_leaves_it(family: Family) -> None:
    for model_type in family.model_types:
        # Of any other extractor, the settings of a checkpoint say how long its inputs are.
        own = getattr(_EXTRACTORS.get(model_type, Waveforms), "seconds", None) == MAX_SECONDS
        assert own == bool(OF_ANY_LENGTH.intersection(family.preprocessors))


def test_recordings_count_by_their_length_up_to_where_they_are_cut() -> None:
    """As shares of the five seconds that FLOPs are counted for."""
    assert [_of_recordings(seconds) for seconds in (1.0, 12.5, 30.0, 600.0)] == [
        (0.2, 0.2), (2.5, 2.5), (6.0, 6.0), (6.0, 6.0)
    ]  # fmt: skip
    assert _of_recordings(None) == ANY_LENGTH
