"""What finished jobs took, kept for estimates: the newest ones of every family and device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from api_schemas.enums import DeviceKind
from api_schemas.results.events import Started
from api_schemas.results.metrics import Memory
from checkpoints.sizes.cost_model import COUNTED, JobCost, PhaseTime, phase_work
from store.database.tables import Job, JobCostRow, JobEventRow, JobStep

KEPT = 100
"""Of a family."""
READ = 20
"""The newest, which an estimate is made from: libraries, drivers and neighbours change."""
_FIRST_EVENTS = 50


@dataclass(frozen=True)
class RecentJobCosts:
    """Finished jobs of one family on one device, newest first."""

    device: str
    jobs: Sequence[JobCost]


def record(session: Session, job_id: str) -> None:
    """Note what a job took that has just succeeded, in the transaction that says so.

    Only of one that ran in one go and did everything itself: what was done twice, waited for or found says nothing of the next.
    """
    job = session.get_one(Job, job_id)
    steps = session.scalars(select(JobStep).where(JobStep.job_id == job_id).order_by(JobStep.step)).all()
    started = first_started(session, job_id)
    if started is None or started.family is None or started.tensor_bytes is None:
        return
    if job.attempts != 1 or job.data is None or len(steps) < 2:
        return
    metrics = [step.metrics for step in steps]
    if any(step.reused for step in metrics):
        return
    layers, flops = len(metrics[0].widths.layers), [step.size.flops for step in metrics]
    # Only hidden states have it; their original is asked beside whatever is scored.
    beside = metrics[0].validation.explained_variance is not None
    search = metrics[0].search
    counted = phase_work(
        job.request,
        layers,
        job.data.windows or job.data.samples,
        flops,
        beside=beside,
        trials=None if search is None else len(search.tried),
    )
    work = {phase: amount for phase, amount in counted.items() if amount}
    seconds = {phase: sum(step.seconds.get(phase, 0.0) for step in metrics) for phase in work}
    observation = JobCost(
        phases={phase: PhaseTime(seconds=seconds[phase], work=amount) for phase, amount in work.items()},
        outside_seconds=max(0.0, job.ran_seconds - sum(seconds.values())),
        base=started.memory or Memory(),
        peak=metrics[-1].memory or Memory(),
        tensor_bytes=started.tensor_bytes,
        counted=COUNTED,
    )
    session.add(JobCostRow(family=started.family, device=started.device, body=observation))
    session.flush()
    of_family = select(JobCostRow.id).where(JobCostRow.family == started.family)
    oldest = of_family.order_by(JobCostRow.id.desc()).offset(KEPT).limit(1).scalar_subquery()
    session.execute(delete(JobCostRow).where(JobCostRow.family == started.family, JobCostRow.id <= oldest))


def recent(session: Session, family: str) -> RecentJobCosts | None:
    """Of the device that finished a job of the family last. None where none has."""
    rows = _newest(session, family)
    return RecentJobCosts(rows[0].device, [row.body for row in rows if row.device == rows[0].device]) if rows else None


def recent_by_kind(session: Session, family: str) -> Mapping[DeviceKind, Sequence[JobCost]]:
    """The same by kind of device."""
    rows = _newest(session, family)
    return {kind: [row.body for row in rows if row.device.partition(":")[0] == kind] for kind in DeviceKind}


def _newest(session: Session, family: str) -> Sequence[JobCostRow]:
    newest = select(JobCostRow).where(JobCostRow.family == family).order_by(JobCostRow.id.desc())
    return session.scalars(newest.limit(READ)).all()


def first_started(session: Session, job_id: str) -> Started | None:
    """What the job's first engine said when it started."""
    events = select(JobEventRow.body).where(JobEventRow.job_id == job_id, JobEventRow.seq <= _FIRST_EVENTS)
    found = (body for body in session.scalars(events.order_by(JobEventRow.seq)) if isinstance(body, Started))
    return next(found, None)
