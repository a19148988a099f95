"""How the wall of a run is divided: the parts add up, whatever phases there are."""

from typing import Any

import pytest

from api_schemas.results.events import JOB_EVENT_BODY
from benchmarks.overhead.division import Moment, Run, divide, first_sign
from tests.support.jobs.fake_engine import metrics

SECONDS: list[dict[str, float]] = [{"preparing": 3.0, "evaluating": 1.0}, {"scoring": 2.0, "packaging": 5.0}]


def moment(at: float, **body: Any) -> Moment:
    return at, JOB_EVENT_BODY.validate_python(body)


def phase(at: float, name: str, step: int) -> Moment:
    return moment(at, type="phase", phase=name, step=step, steps=1)


def step(at: float, number: int) -> Moment:
    return moment(at, type="step", folder=f"step-{number}", metrics={**metrics(number), "seconds": SECONDS[number]})


STARTED = {"type": "started", "device": "cpu", "threads": 1, "steps": 1, "versions": {}}
WORK = [
    moment(7.0, **STARTED),
    phase(7.5, "preparing", 0),
    phase(10.6, "evaluating", 0),
    step(12.0, 0),
    phase(12.2, "scoring", 1),
    phase(14.2, "packaging", 1),
    step(20.0, 1),
    moment(20.1, type="finished", steps=1),
]
JOB = [moment(0.1, type="state", state="queued"), moment(0.4, type="state", state="running"), *WORK]


def test_the_parts_of_a_job_are_its_wall() -> None:
    found = divide(Run([*JOB, moment(21.0, type="state", state="succeeded")], 21.0, gates=4.0, stored=[0.1, 0.3]))
    assert sum(found.parts.values()) == pytest.approx(found.wall)
    assert found.parts == pytest.approx(
        {
            "submission to first event": 0.4,
            "first event to the engine's first output": 6.6,
            "engine's first output to first phase": 0.5,
            "phase preparing": 3.0,
            "phase evaluating": 1.0,
            "phase scoring": 2.0,
            "phase packaging": 5.0,
            "between phases": 1.2,
            "storing the last step": 0.3,
            "last step to end": 1.0,
        }
    )
    assert (found.own, found.stored) == pytest.approx((7.0, 0.4))
    assert found.overhead == pytest.approx(1 - 7 / 21)
    assert found.covered == pytest.approx(11 / 21)


def test_the_parts_of_the_engine_alone_are_its_wall() -> None:
    found = divide(Run(WORK, 22.0, gates=0.0))
    assert sum(found.parts.values()) == pytest.approx(22.0)
    assert found.parts["submission to first event"] == 0.0
    assert found.parts["first event to the engine's first output"] == 7.0
    assert found.parts["last step to end"] == pytest.approx(2.0)


def test_a_phase_of_starting_is_overhead_and_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECONDS[0], "starting", 7.0)
    moments = [*JOB[:-5], step(12.0, 0), *JOB[-4:]]
    found = divide(Run(moments, 21.0, gates=0.0, stored=[0.0, 0.0]))
    assert sum(found.parts.values()) == pytest.approx(21.0)
    assert "phase starting" not in found.parts
    assert found.own == pytest.approx(11.0)
    assert found.covered == pytest.approx(18 / 21)


def test_a_job_that_waits_has_no_sign_yet() -> None:
    with pytest.raises(ValueError, match="did not come"):
        first_sign(JOB[:1])
    assert first_sign(JOB) == 0.4
