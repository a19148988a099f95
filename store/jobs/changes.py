"""The single conditional UPDATE that every change of a job's state uses, with the events and webhooks it causes (docs/states.md).

Only transitions and preemption call it.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, case, literal, update
from sqlalchemy.orm import Session

from api_schemas.enums import JobState
from api_schemas.results.events import JobEventBody, StateChanged
from store.database.clock import now
from store.database.tables import Job, JobEventRow
from store.webhooks import enqueue


def change_jobs(
    session: Session,
    condition: ColumnElement[bool],
    events: Sequence[JobEventBody] = (),
    detail: str | None = None,
    **values: Any,
) -> Sequence[Job]:
    """UPDATE … WHERE `condition`, with the events it causes: `events`, then the change of state if any. Returns what it changed.

    `detail` says what led to it, where that is not the job's error.
    """
    moved = int("state" in values)
    statement = update(Job).where(condition).values(last_seq=Job.last_seq + len(events) + moved, **values)
    options = {"synchronize_session": False, "populate_existing": True}
    changed = session.scalars(statement.returning(Job), execution_options=options).all()
    for job in changed:
        why = job.error.detail if job.error else detail
        bodies = [*events, StateChanged(state=job.state, detail=why)] if moved else events
        first = job.last_seq - len(bodies) + 1
        session.add_all(
            JobEventRow(job_id=job.id, tenant=job.tenant, seq=seq, body=body) for seq, body in enumerate(bodies, first)
        )
        if moved:
            job.error_code = job.error.code if job.error and job.state == JobState.FAILED else None
            enqueue.state_changed(session, job)
    session.flush()
    return changed


def either(*choices: tuple[SQLColumnExpression[bool], JobState], otherwise: JobState) -> ColumnElement[JobState]:
    """CASE over states, typed as the column is."""
    column = Job.state.type
    return case(
        *((condition, literal(state, column)) for condition, state in choices), else_=literal(otherwise, column)
    )


def at_rest(state: JobState | ColumnElement[JobState]) -> dict[str, Any]:
    """What a job that no worker holds looks like."""
    return {
        "state": state,
        "finished_at": now(),
        "lease_until": None,
        "phase": None,
        "progress": None,
        "pause_requested": False,
        "yields_to": None,
    }
