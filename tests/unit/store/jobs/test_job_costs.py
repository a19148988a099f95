"""What finished jobs took: which of them are noted, what of them, and which an estimate is made from."""

from typing import Any

import pytest
from sqlalchemy import select, update

from api_schemas.enums import Phase
from api_schemas.results.events import JobEventBody, Started
from api_schemas.results.metrics import DataSummary, Memory
from store.database.connection import Database
from store.database.tables import Job, JobCostRow
from store.jobs import job_costs, transitions
from tests.support.jobs.job_transitions import claim, release, running
from tests.support.jobs.records import job_request, step_file, step_metrics

SAMPLES = {"train": 40, "validation": 10, "test": 10}
FLOPS = 300
"""Of every step, as step_metrics has it."""
SECONDS = {
    "starting": 1.0, "preparing": 2.0, "scoring": 8.0, "analysing": 5.0, "pruning": 4.0, "finetuning": 16.0, "evaluating": 32.0,
    "packaging": 3.0,
}  # fmt: skip
RAN = 100.0


def finished(
    database: Database,
    pruning: dict[str, Any] | None = None,
    *,
    twice: bool = False,
    started: dict[str, Any] | None = None,
    data: DataSummary | None = None,
    steps: int = 2,
    reused: tuple[str, ...] = (),
) -> None:
    """A job that has succeeded, and been noted where it may be. By default one that is: a cut of half by magnitude."""
    lease = running(database)
    values = {"family": "vit", "device": "cpu", "tensor_bytes": 5, "memory": Memory(host=7)} | (started or {})
    events: list[JobEventBody] = [Started(threads=1, steps=1, versions={}, **values)]
    with database.write() as session:
        asked = {"target": {"attention_sparsity": 0.5}, "preset": "paper", "criterion": "magnitude"} | (pruning or {})
        session.execute(update(Job).where(Job.id == lease.job_id).values(request=job_request(pruning=asked)))
        transitions.record(session, lease, events, data=data)
    if twice:
        release(database, lease)
        again = claim(database)
        assert again is not None
        lease = again
    for step in range(steps):
        with database.write() as session:
            took = {phase: seconds / 2 for phase, seconds in SECONDS.items()}
            measured = step_metrics(step).model_copy(
                update={"seconds": took, "memory": Memory(host=70 + step), "reused": reused}
            )
            files = [step_file(lease.job_id, step)]
            transitions.commit_step(session, lease, measured, files, downloadable=step > 0)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == lease.job_id).values(ran_seconds=RAN))
        transitions.succeed(session, lease)
        job_costs.record(session, lease.job_id)


def noted(database: Database) -> list[JobCostRow]:
    with database.read() as session:
        return list(session.scalars(select(JobCostRow).order_by(JobCostRow.id)))


DATA = DataSummary(samples=SAMPLES)


def test_time_and_memory_of_a_job_that_ran_in_one_go(database: Database) -> None:
    finished(database, {"criterion": "fisher_gate", "compensation": "least_squares"}, data=DATA)
    (row,) = noted(database)
    assert (row.family, row.device, row.body.tensor_bytes) == ("vit", "cpu", 5)
    assert (row.body.base, row.body.peak) == (Memory(host=7), Memory(host=71))
    seconds = {phase.value: each.seconds for phase, each in row.body.phases.items()}
    assert seconds == SECONDS
    assert row.body.comparable == row.body.phases
    assert row.body.outside_seconds == pytest.approx(RAN - sum(SECONDS.values()))
    # A forward and a backward pass of the ten calibration samples through the original.
    assert row.body.phases[Phase.SCORING].work == 2 * 10 * FLOPS
    assert row.body.phases[Phase.PRUNING].work == 10 * FLOPS


def test_time_in_which_nothing_passed_through_a_model_is_no_speed(database: Database) -> None:
    finished(database, data=DATA)
    (row,) = noted(database)
    assert set(row.body.phases) == {Phase(phase) for phase in SECONDS} - {Phase.SCORING, Phase.PRUNING}
    others = sum(seconds for phase, seconds in SECONDS.items() if phase not in ("scoring", "pruning"))
    assert row.body.outside_seconds == pytest.approx(RAN - others)


@pytest.mark.parametrize(
    "changes",
    [
        {"twice": True},
        {"reused": ("inputs",)},
        {"data": None},
        {"steps": 1},
        {"started": {"family": None}},
        {"started": {"tensor_bytes": None}},
    ],
    ids=str,
)
def test_jobs_that_say_nothing_of_the_next_are_not_noted(sqlite_database: Database, changes: dict[str, Any]) -> None:
    finished(sqlite_database, **{"data": DATA, **changes})
    assert noted(sqlite_database) == []


def test_an_estimate_has_the_newest_of_the_device_that_finished_last(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_costs, "KEPT", 4)
    monkeypatch.setattr(job_costs, "READ", 3)
    for number, device in enumerate(["cpu", "cpu", "cpu", "cuda", "cpu"]):
        finished(sqlite_database, started={"device": device, "tensor_bytes": number}, data=DATA)
    finished(sqlite_database, started={"family": "bert", "tensor_bytes": 9}, data=DATA)
    assert [row.body.tensor_bytes for row in noted(sqlite_database)] == [1, 2, 3, 4, 9]
    with sqlite_database.read() as session:
        found = job_costs.recent(session, "vit")
        assert found is not None
        assert (found.device, [cost.tensor_bytes for cost in found.jobs]) == ("cpu", [4, 2])
        assert job_costs.recent(session, "whisper") is None
