"""Reading jobs, and creating one. Everything that changes a job's state is in store/jobs/transitions.py."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from sqlalchemy import JSON, ColumnElement, Select, String, and_, bindparam, func, select, true, type_coerce
from sqlalchemy.orm import Session

from api_schemas.results.events import JobEvent
from api_schemas.results.metrics import JobWarning, StepMetrics
from api_schemas.spec.job import JobRequest
from store.database.tables import Job, JobEventRow, JobStep
from store.database.tenancy import select_owned
from store.jobs import transitions, turns
from store.jobs.workers.capabilities import NOTHING, Needs


def create(
    session: Session,
    tenant: str,
    request: JobRequest,
    lineage: Mapping[str, str],
    warnings: tuple[JobWarning, ...] = (),
    needs: Needs = NOTHING,
    sweep: tuple[str, int] | None = None,
) -> Job:
    """Create a queued job, its first event, and the message that wakes a worker (after the commit: outbox.dispatch).

    `sweep`: its sweep, and its position there.
    """
    return transitions.submit(session, tenant, request, lineage, warnings, needs, sweep)


def get(session: Session, tenant: str, job_id: str) -> Job | None:
    """The job, also if it was deleted (`deleted_at`)."""
    return session.scalar(_one(), {"tenant": tenant, "job_id": job_id})


@lru_cache
def _one() -> Select[Job]:
    """Built once, because every poll uses it."""
    return select_owned(Job, bindparam("tenant", type_=String)).where(Job.id == bindparam("job_id"))


def steps(session: Session, tenant: str, job_id: str) -> Sequence[JobStep]:
    """All committed steps in order, with their files; step 0 has metrics only (`downloadable` is False)."""
    return session.scalars(select_owned(JobStep, tenant).where(JobStep.job_id == job_id).order_by(JobStep.step)).all()


def metrics(session: Session, tenant: str, found: Sequence[Job]) -> dict[str, list[StepMetrics]]:
    """Metrics of all committed steps in order, by job. At most one query, which does not read the steps' many files, because
    polls call this."""
    measured: dict[str, list[StepMetrics]] = {job.id: [] for job in found}
    begun = [job.id for job in found if job.last_step is not None]
    if begun:
        query = select_owned(JobStep, tenant).where(JobStep.job_id.in_(begun)).order_by(JobStep.step)
        for job_id, of_step in session.execute(query.with_only_columns(JobStep.job_id, JobStep.metrics)):
            measured[job_id].append(of_step)
    return measured


def hold_step(session: Session, tenant: str, job_id: str, step: int) -> bool:
    """Whether the step has a checkpoint; if so, its files do not expire before this transaction ends."""
    # KEY SHARE excludes expiry, which locks the job, but not the worker that may still run it.
    session.scalar(select_owned(Job, tenant).where(Job.id == job_id).with_for_update(read=True, key_share=True))
    kept = select_owned(JobStep, tenant).where(JobStep.job_id == job_id, JobStep.step == step)
    return session.scalar(kept.where(JobStep.downloadable, ~JobStep.expired)) is not None


def events_after(session: Session, tenant: str, job_id: str, seq: int, limit: int) -> Sequence[JobEvent]:
    """Events numbered above `seq`, in order."""
    query = select_owned(JobEventRow, tenant).where(JobEventRow.job_id == job_id, JobEventRow.seq > seq)
    rows = session.scalars(query.order_by(JobEventRow.seq).limit(limit))
    return [JobEvent(seq=row.seq, created_at=row.created_at, body=row.body) for row in rows]


def newest_events(session: Session, tenant: str, job_id: str, kinds: Sequence[str], most: int) -> Sequence[JobEvent]:
    """The newest of these types (`phase`, `loss`), in order."""
    kind = type_coerce(JobEventRow.body, JSON)["type"].as_string()
    query = select_owned(JobEventRow, tenant).where(JobEventRow.job_id == job_id, kind.in_(kinds))
    rows = session.scalars(query.order_by(JobEventRow.seq.desc()).limit(most)).all()
    return [JobEvent(seq=row.seq, created_at=row.created_at, body=row.body) for row in reversed(rows)]


def count_claimable(
    session: Session,
    failure_cap: int,
    max_running: int | None = None,
    most: int | None = None,
    held: ColumnElement[bool] | None = None,
) -> int:
    """How many jobs workers would get if they asked now, provided that no tenant reaches `max_running` meanwhile; counting stops
    at `most`. `held`: only jobs that these workers can hold (store/jobs/workers/capabilities.py)."""
    found = 0
    for ready in (turns.due(), turns.lost(failure_cap)):
        ready = and_(ready, turns.sweep_has_room(), true() if held is None else held)
        if max_running is not None:
            ready = and_(ready, Job.tenant.not_in(turns.at_their_most(max_running)))
        some = select(Job.id).where(ready).limit(None if most is None else most - found).subquery()
        found += session.scalar(select(func.count()).select_from(some)) or 0
    return found
