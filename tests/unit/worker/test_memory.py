"""How many samples a pass had when the memory ran out, and how a killed engine shows in the container's counts."""

from pathlib import Path

import pytest

from api_schemas.enums import Phase
from tests.support.jobs.records import job_request
from worker.engine.pruning.calibration import BATCH
from worker.supervisor.memory import SCORED_TOGETHER, oom_kills, samples_at_once

REQUEST = job_request(finetune={"batch_size": 24}, evaluate={"batch_size": 48})
EVENTS = "low 0\nhigh 4\nmax 132\noom 3\noom_kill 2\noom_group_kill 1\n"


@pytest.mark.parametrize(
    ("phase", "device", "samples"),
    [
        (Phase.FINETUNING, "cuda", 24),
        (Phase.FINETUNING, "cpu", 24),
        (Phase.EVALUATING, "cuda", 48),
        (Phase.PREPARING, "cpu", 48),
        (None, "cpu", 48),
        (Phase.SCORING, "cpu", 8),
        (Phase.SCORING, "cuda", 64),
        (Phase.SCORING, "cuda:1", 64),
        (Phase.SCORING, "auto", 8),
        (Phase.SCORING, "xpu", 8),
    ],
)
def test_each_phase_has_a_number_of_its_own(phase: Phase | None, device: str, samples: int) -> None:
    assert samples_at_once(REQUEST, phase, device, None) == samples


def test_without_a_recovery_every_phase_but_scoring_counts_as_evaluation() -> None:
    request = job_request(finetune=None, evaluate={"batch_size": 48})
    assert samples_at_once(request, Phase.FINETUNING, "cuda", None) == 48


@pytest.mark.parametrize(
    ("phase", "microbatch", "samples"),
    [(Phase.FINETUNING, 6, 6), (Phase.FINETUNING, 100, 24), (Phase.SCORING, 6, 6), (Phase.EVALUATING, 1, 1)],
)
def test_a_job_that_ran_out_before_has_no_more_than_it_was_given(phase: Phase, microbatch: int, samples: int) -> None:
    assert samples_at_once(REQUEST, phase, "cuda", microbatch) == samples


def test_the_numbers_of_scoring_are_the_engines() -> None:
    assert SCORED_TOGETHER == BATCH


def test_kills_are_counted_and_not_ooms_that_killed_nobody(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text(EVENTS)
    assert oom_kills(events) == 2


@pytest.mark.parametrize(
    "content", [None, "", "oom 3\n", "oom_kill many\n", "oom_kill\n", "one two three\n", "\x00\xff"]
)
def test_where_the_kernel_does_not_say_there_were_none(tmp_path: Path, content: str | None) -> None:
    events = tmp_path / "memory.events"
    if content is not None:
        events.write_text(content, encoding="latin-1")
    assert oom_kills(events) == 0


def test_on_this_machine_the_count_can_be_asked_for_at_any_time() -> None:
    assert oom_kills() >= 0
