"""Decides which running jobs yield their workers to waiting jobs of higher priority (docs/adr/0048-preemption.md).

Maintenance looks at waiting jobs, running jobs and free workers, and asks a job to yield. That job's worker hands it back where
nothing is lost by it, after a step or a saved epoch (worker/supervisor/attempt.py). The next claim is by priority.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from api_schemas.enums import JobState
from store.database.clock import now
from store.database.tables import Job, Worker
from store.jobs import turns
from store.jobs.changes import change_jobs
from store.jobs.turns import HELD
from store.jobs.workers import capabilities
from store.jobs.workers.capabilities import Capability, Fleet, Needs, can_hold
from store.jobs.workers.live_workers import ALIVE, capability

NEAR_END = 0.9
"""A job whose progress is at least this fraction is left alone."""
LOOKED_AT = 256
"""Number of queued jobs that are considered at a time."""
ASKED = "it will hand its worker to a job of higher priority"
NOT_ASKED = "it keeps its worker: no job of higher priority is waiting for it any more"
REASON = "it handed its worker to a job of higher priority, and continues when its turn comes"


@dataclass(frozen=True)
class Rules:
    """Which jobs may be asked to yield to which."""

    across_tenants: bool
    """Whether jobs of another tenant can be asked, if it runs more jobs than the tenant of the waiting job."""
    most: int
    """How often a job can be asked."""
    max_running: int | None = None
    """Maximum number of running jobs per tenant."""


@dataclass(frozen=True)
class Waiting:
    """A job that is queued and due."""

    id: str
    tenant: str
    priority: int
    needs: Needs


@dataclass(frozen=True)
class Held:
    """A job that a worker holds."""

    id: str
    tenant: str
    priority: int
    worker: Capability | None
    """None if the worker has not announced itself, or not recently."""
    leaves: bool
    """It releases its worker anyway, because it is to pause or is being cancelled."""
    asked: bool
    """It has already been asked, and may stay so."""
    can_be_asked: bool
    preemptions: int
    claimed_at: datetime


def arrange(session: Session, rules: Rules) -> Sequence[tuple[str, str]]:
    """Ask the jobs that `plan` selects, and withdraw requests that are no longer needed. Returns the asked jobs, each with the
    job to which it yields."""
    held = _held(session)
    if not held:
        return ()
    workers = [(row.id, capability(row)) for row in session.scalars(select(Worker).where(ALIVE))]
    busy = set(session.scalars(select(Job.worker).where(Job.state.in_(HELD), Job.lease_until >= now())))
    free = [has for worker, has in workers if worker not in busy]
    fleet = Fleet.of(has for _, has in workers)
    handed = plan(_waiting(session, min(job.priority for job in held), fleet), held, free, rules)
    runs = and_(Job.state == JobState.RUNNING, ~Job.pause_requested)
    asked_before = and_(runs, Job.yields_to.is_not(None))
    keeps = and_(asked_before, Job.id.not_in(list(handed)))
    change_jobs(session, keeps, detail=NOT_ASKED, state=JobState.RUNNING, yields_to=None)
    asked = []
    for job_id, other in handed.items():
        # For a job that was already asked, only the job to which it yields changes.
        change_jobs(session, and_(asked_before, Job.id == job_id, Job.yields_to != other), yields_to=other)
        condition = and_(runs, Job.id == job_id, Job.yields_to.is_(None))
        if change_jobs(session, condition, detail=ASKED, state=JobState.RUNNING, yields_to=other):
            asked.append((job_id, other))
    return asked


def must_yield(session: Session, job: Job) -> bool:
    """Whether a running job was asked to yield its worker, and the job that needs it still waits."""
    if job.yields_to is None:
        return False
    waits = select(Job.id).where(Job.id == job.yields_to, turns.due(), turns.sweep_has_room())
    return session.scalar(waits) is not None


def plan(waiting: Iterable[Waiting], held: Iterable[Held], free: Iterable[Capability], rules: Rules) -> dict[str, str]:
    """Which held jobs give their workers to which waiting jobs: those that leave anyway, and those that are to be asked.

    Goes through the waiting jobs in the order of claims: each gets a free worker, else one whose job leaves anyway, else one
    whose job is asked to yield.

    Only a job of strictly lower priority is asked, whose worker can hold the waiting job. In order: one that has already been
    asked, the lowest priority, the tenant that runs most jobs, the job that was asked least often, the job claimed last. A tenant
    that runs as many jobs as it may waits only for its own jobs.
    """
    held, free = list(held), list(free)
    running = Counter(job.tenant for job in held)
    handed = {}
    for job in waiting:
        full = rules.max_running is not None and running[job.tenant] >= rules.max_running
        fitting = [has for has in free if can_hold(has, job.needs)]
        if fitting and not full:
            free.remove(min(fitting, key=_size))
            running[job.tenant] += 1
            continue
        for_it = [
            other
            for other in held
            if other.worker is not None
            and can_hold(other.worker, job.needs)
            and (other.tenant == job.tenant or not full)
        ]
        leaving = [other for other in for_it if other.leaves]
        if leaving:
            chosen = min(leaving, key=lambda other: _size(other.worker))
        else:
            candidates = [
                other
                for other in for_it
                if other.can_be_asked
                and other.priority < job.priority
                and other.preemptions < rules.most
                and (
                    other.tenant == job.tenant or (rules.across_tenants and running[other.tenant] > running[job.tenant])
                )
            ]
            if not candidates:
                continue
            chosen = min(
                candidates,
                key=lambda other: (
                    not other.asked,
                    other.priority,
                    -running[other.tenant],
                    other.preemptions,
                    -other.claimed_at.timestamp(),
                    other.id,
                ),
            )
        handed[chosen.id] = job.id
        held.remove(chosen)
        running[chosen.tenant] -= 1
        running[job.tenant] += 1
    return handed


def _size(worker: Capability | None) -> tuple[bool, str, float]:
    """Sorts the smallest sufficient worker first, because larger ones may be needed for larger jobs. Those of unknown size are
    last."""
    memory = None if worker is None else worker.memory_bytes
    kind = "" if worker is None or worker.device is None else worker.device.value
    return kind == "", kind, float("inf") if memory is None else memory


def _waiting(session: Session, above: int, fleet: Fleet) -> list[Waiting]:
    """The first queued jobs above some priority that one of the workers can hold."""
    ahead = select(Job).where(turns.due(), Job.priority > above, fleet.can_hold(), turns.sweep_has_room())
    found = session.scalars(turns.in_claim_order(ahead).limit(LOOKED_AT)).all()
    rooms = turns.sweep_rooms(session, {job.sweep_id for job in found if job.sweep_id is not None})
    waiting = []
    for job in found:
        if job.sweep_id in rooms:
            # A worker given to a sweep that already runs as many jobs as it may would be idle.
            if not rooms[job.sweep_id]:
                continue
            rooms[job.sweep_id] -= 1
        waiting.append(Waiting(job.id, job.tenant, job.priority, capabilities.of_job(job)))
    return waiting


def _held(session: Session) -> list[Held]:
    found = select(Job, Worker).outerjoin(Worker, and_(Worker.id == Job.worker, ALIVE))
    rows = session.execute(found.where(Job.state.in_(HELD), Job.lease_until >= now()))
    return [_as_held(job, worker) for job, worker in rows]


def _as_held(job: Job, worker: Worker | None) -> Held:
    assert job.claimed_at is not None
    leaves = job.state is JobState.CANCELLING or job.pause_requested
    near = job.progress is not None and job.progress.fraction >= NEAR_END
    return Held(
        job.id,
        job.tenant,
        job.priority,
        None if worker is None else capability(worker),
        leaves,
        not leaves and job.yields_to is not None,
        not near,
        job.preemptions,
        job.claimed_at,
    )
