"""Whether the database says of every job what its model says (tests/support/jobs/job_model.py)."""

from collections.abc import Mapping

from sqlalchemy import func, select

from store.database.connection import Database
from store.database.tables import Job, JobEventRow, JobLogRow, JobStep, OutboxMessage
from tests.support.jobs.job_model import JobModel

SAME = (
    "state",
    "epoch",
    "failures",
    "pause_requested",
    "yields_to",
    "preemptions",
    "last_step",
    "microbatch",
    "training",
    "error",
)


def assert_as_modelled(database: Database, models: Mapping[str, JobModel]) -> dict[str, Job]:
    """Rows, events, steps and logs, one snapshot; returns the rows. The models are all the jobs there are."""
    with database.read() as session:
        rows = {row.id: row for row in session.scalars(select(Job))}
        events = session.scalars(select(JobEventRow).order_by(JobEventRow.job_id, JobEventRow.seq)).all()
        steps = session.scalars(select(JobStep).order_by(JobStep.job_id, JobStep.step)).all()
        pieces = session.scalars(select(JobLogRow).order_by(JobLogRow.attempt, JobLogRow.start)).all()
        wakes = session.scalar(select(func.count()).select_from(OutboxMessage))
    assert rows.keys() == models.keys()
    assert wakes == sum(job.wakes for job in models.values())
    for job_id, job in models.items():
        row = rows[job_id]
        assert {name: getattr(row, name) for name in SAME} == {name: getattr(job, name) for name in SAME}
        told = [(event.seq, event.body) for event in events if event.job_id == job_id]
        assert told == list(enumerate(job.events, 1))
        assert row.last_seq == len(told)
        committed = [(step.step, step.epoch, len(step.files)) for step in steps if step.job_id == job_id]
        assert committed == [(step, epoch, 1) for step, epoch in enumerate(job.steps)]
        said: dict[int, str] = {}
        for piece in pieces:
            if piece.job_id == job_id:
                said[piece.attempt] = said.get(piece.attempt, "") + piece.text
        assert said == job.logs
    return rows
