"""The job that is measured: how its clips are divided, what it said was left of it, and its part of the page."""

import pytest

from api_schemas.enums import Phase, Split
from api_schemas.results.events import PhaseChanged, Progress
from benchmarks.whisper.job import MINUTES, estimates, splits
from benchmarks.whisper.page import job


def test_a_fifth_each_is_held_out() -> None:
    assert splits(100) == {Split.TRAIN: 60, Split.VALIDATION: 20, Split.TEST: 20}


def test_the_first_estimate_of_every_phase_beside_what_was_left() -> None:
    def progress(phase: Phase, step: int, eta: float | None) -> Progress:
        return Progress(phase=phase, step=step, steps=1, done=1, total=2, fraction=0.5, eta_seconds=eta)

    moments = [
        (1.0, PhaseChanged(phase=Phase.PREPARING, step=0, steps=1)),
        (2.0, progress(Phase.PREPARING, 0, None)),
        (3.0, progress(Phase.PREPARING, 0, 50.0)),
        (4.0, progress(Phase.PREPARING, 0, 51.0)),
        (30.0, progress(Phase.EVALUATING, 0, 65.0)),
        (80.0, progress(Phase.EVALUATING, 1, 20.0)),
    ]
    found = estimates(moments, 100.0)
    assert [(each["phase"], each["at"], each["said"], each["left"]) for each in found] == [
        ("preparing", 3.0, 50.0, 97.0),
        ("evaluating", 30.0, 65.0, 70.0),
        ("evaluating", 80.0, 20.0, 20.0),
    ]


@pytest.mark.parametrize(("processor", "met"), [(60 * MINUTES, "yes"), (60 * MINUTES + 1, "no")])
def test_the_page_says_whether_it_was_quick_enough(processor: float, met: str) -> None:
    found = {
        "clips": {"train": 60, "validation": 20, "test": 20},
        "processor": processor,
        "wall": 900.0,
        "phases": {"scoring": 300.0},
        "estimates": [{"phase": "scoring", "at": 3.0, "said": 50.0, "left": 97.0}],
        "load": 2.5,
    }
    text = "\n".join(job(found))
    assert "100 synthesised clips" in text
    assert f"| {processor:.0f} | 900 | 2.5 | {met} |" in text
    assert "| scoring | 3 | 50 | 97 |" in text
