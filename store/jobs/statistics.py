"""Figures for the operator over all tenants: the length of the queue, how jobs end, and where their time goes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Row, func, literal_column, select, type_coerce
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.errors import ErrorCode
from store.database import stored_bytes
from store.database.clock import moment
from store.database.tables import Job, JobEventRow
from store.jobs.transitions import WORKER_LOST

RECENT_SECONDS = 86_400
MOST_JOBS = 500
"""Of the recent ones, the newest, whose events are read: a scrape stays short however busy the service is."""


@dataclass(frozen=True)
class Statistics:
    """Phases and crashes are of the jobs that were claimed within the last RECENT_SECONDS."""

    jobs_by_state: dict[str, float]
    queued: int
    oldest_queued_seconds: float
    failures_by_code: dict[str, float]
    crashes_by_code: dict[str, float]
    lease_expiries: int
    """How often a job was taken from a worker that had fallen silent."""
    phase_seconds: dict[str, float]
    phase_times: dict[str, float]
    stored_bytes: int


def read(session: Session) -> Statistics:
    """On one snapshot."""
    states = dict.fromkeys((state.value for state in JobState), 0.0)
    failures: dict[str, float] = {}
    ended = select(Job.state, Job.error_code, func.count()).group_by(Job.state, Job.error_code)
    for state, code, count in session.execute(ended):
        states[state.value] += count
        if state is JobState.FAILED and code is not None:
            failures[code] = float(count)
    here = moment(session)
    oldest = session.scalar(select(func.min(Job.created_at)).where(Job.state == literal_column("'queued'")))
    seconds, times, crashes, expiries = _of_events(session)
    return Statistics(
        jobs_by_state=states,
        queued=int(states[JobState.QUEUED.value]),
        oldest_queued_seconds=(here - oldest).total_seconds() if oldest else 0.0,
        failures_by_code=failures,
        crashes_by_code=crashes,
        lease_expiries=expiries,
        phase_seconds=seconds,
        phase_times=times,
        stored_bytes=stored_bytes.total(session),
    )


def _of_events(session: Session) -> tuple[dict[str, float], dict[str, float], dict[str, float], int]:
    """Seconds in each phase, how often each was begun, unplanned ends by code, and leases that ran out."""
    recent = (
        select(Job.id)
        .where(Job.claimed_at > moment(session, -RECENT_SECONDS))
        .order_by(Job.claimed_at.desc())
        .limit(MOST_JOBS)
        .scalar_subquery()
    )
    kind = _member(JobEventRow.body, "type")
    rows = session.execute(
        select(
            JobEventRow.job_id,
            JobEventRow.created_at,
            _member(JobEventRow.body, "phase").label("phase"),
            _member(JobEventRow.body, "state").label("state"),
            _member(JobEventRow.body, "code").label("code"),
            _member(JobEventRow.body, "detail").label("detail"),
        )
        .where(JobEventRow.job_id.in_(recent), kind.in_(("phase", "state", "warning")))
        .order_by(JobEventRow.job_id, JobEventRow.seq)
    )
    return _added_up(rows)


def _added_up(
    rows: Iterable[Row[str, datetime, Any, Any, Any, Any]],
) -> tuple[dict[str, float], dict[str, float], dict[str, float], int]:
    seconds: dict[str, float] = {}
    times: dict[str, float] = {}
    crashes: dict[str, float] = {}
    idle = {state.value for state in (*TERMINAL_STATES, JobState.QUEUED, JobState.PAUSED)}
    known = {code.value for code in ErrorCode}
    expiries = 0
    job: str | None = None
    phase: str | None = None
    began: datetime | None = None
    held = False
    for job_id, at, next_phase, state, code, detail in rows:
        if job_id != job:
            job, phase, began, held = job_id, None, None, False
        # Claimed by one while another held it, or ended by maintenance for want of its worker. A pause that is asked for or taken
        # back says so.
        expiries += (held and state == JobState.RUNNING and detail is None) or detail == WORKER_LOST.detail
        held = held if state is None else state == JobState.RUNNING
        if code in known:
            crashes[code] = crashes.get(code, 0.0) + 1
        if next_phase is None and state not in idle:
            continue
        if phase is not None and began is not None:
            seconds[phase] = seconds.get(phase, 0.0) + (at - began).total_seconds()
            times[phase] = times.get(phase, 0.0) + 1
        phase, began = next_phase, at
    return seconds, times, crashes, expiries


def _member(document: Any, name: str) -> ColumnElement[str]:
    """A text inside a JSON column."""
    member: ColumnElement[str] = type_coerce(document, JSON)[name].as_string()
    return member
