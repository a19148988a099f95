"""Seconds of a job's phases from what finished ones took."""

import pytest

from api_schemas.enums import Modality, Phase
from api_schemas.results.metrics import Memory
from checkpoints.families import ALL_FAMILIES, family_named
from checkpoints.sizes.cost_model import COUNTED, JobCost, PhaseTime
from service.core.jobs.estimate import _seconds
from service.core.jobs.first_estimate import ANY_LENGTH, MOST_SECONDS, of_recordings
from worker.engine.data.featurizers.waveforms import MAX_SECONDS

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


FIXED_BY_THE_EXTRACTOR = {"ast", "clap", "whisper", "qwen2_audio", "qwen2_audio_encoder"}


def test_recordings_are_as_long_as_they_are_where_no_extractor_fixes_it() -> None:
    """FLOPs of these families are counted for five seconds (docs/data.md lists which)."""
    audio = [family for family in ALL_FAMILIES if family.modality is Modality.AUDIO]
    own = {family.name for family in audio if of_recordings(family, 2.5) == (0.5, 0.5)}
    fixed = {family.name for family in audio if of_recordings(family, 2.5) == (1.0, 1.0)}
    assert own | fixed == {family.name for family in audio}
    assert fixed == FIXED_BY_THE_EXTRACTOR
    assert {"wav2vec2", "wav2vec2-bert", "wav2vec2-conformer", "wavlm"} <= own
    bert = family_named("wav2vec2-bert")
    assert of_recordings(bert, None) == ANY_LENGTH
    assert of_recordings(bert, 120.0) == (6.0, 6.0)
    assert MOST_SECONDS == MAX_SECONDS
