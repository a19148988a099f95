"""Figures for the operator about workers: which exist, what they run, and how many more or fewer the jobs could use."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from api_schemas.enums import DeviceKind
from store.database.clock import now
from store.database.tables import Job, Worker
from store.jobs.turns import HELD, sweep_rooms
from store.jobs.workers import live_workers

UNKNOWN = "unknown"
"""The device of a worker that does not know it."""


@dataclass(frozen=True)
class Standing:
    """A live worker."""

    name: str
    device: str
    busy: bool
    disk_bytes: int | None
    disk_free_bytes: int | None


@dataclass(frozen=True)
class Demand:
    """How many workers of a kind would have work."""

    bound: int
    """For jobs that wait for this kind, and those that run on it."""
    any: int
    """The same, with the jobs that any kind can run."""


@dataclass(frozen=True)
class WorkerStatistics:
    """Figures at one moment."""

    workers: tuple[Standing, ...]
    expired_leases: int
    """Jobs whose worker is silent, and that no other has taken yet."""
    unfit: int
    """Queued jobs that none of the live workers can hold; 0 without any workers."""
    demand: dict[DeviceKind, Demand]


def read(session: Session, max_running: int | None) -> WorkerStatistics:
    """`max_running`: per tenant; jobs beyond it wait for the tenant's own."""
    by = select(Job.worker, Job.tenant).where(Job.state.in_(HELD), Job.lease_until >= now(), Job.worker.is_not(None))
    held = dict(session.execute(by).all())
    living = session.scalars(select(Worker).where(Worker.alive_until >= now())).all()
    expired = select(func.count()).select_from(Job).where(Job.state.in_(HELD), Job.lease_until < now())
    queued = Job.state == literal_column("'queued'")
    fleet = live_workers.fleet(session)
    unfit = select(func.count()).select_from(Job).where(queued, ~fleet.can_hold())
    of = (Job.tenant, Job.needs_device, Job.sweep_id)
    waiting = session.execute(select(*of, func.count()).where(queued).group_by(*of)).all()
    rooms = sweep_rooms(session, {sweep for _, _, sweep, _ in waiting if sweep is not None})
    return WorkerStatistics(
        workers=tuple(
            Standing(
                row.name,
                row.device.value if row.device else UNKNOWN,
                row.id in held,
                row.disk_bytes,
                row.disk_free_bytes,
            )
            for row in living
        ),
        expired_leases=session.scalar(expired) or 0,
        unfit=(session.scalar(unfit) or 0) if fleet.kinds else 0,
        demand=_demand(
            waiting,
            rooms,
            Counter(held.values()),
            Counter(row.device for row in living if row.id in held),
            max_running,
        ),
    )


def _demand(
    waiting: Iterable[tuple[str, DeviceKind | None, str | None, int]],
    rooms: dict[str, int],
    running: Counter[str],
    on_devices: Counter[DeviceKind | None],
    max_running: int | None,
) -> dict[DeviceKind, Demand]:
    """`waiting`: counts by tenant, device and sweep; `rooms`: how many more jobs of a sweep may run, if it has a limit;
    `running`: jobs by tenant; `on_devices`: running jobs by device. Jobs that only one kind can run come first."""
    wanted: Counter[DeviceKind | None] = Counter()
    left = dict(rooms)
    taken = Counter(running)
    for tenant, device, sweep, waits in sorted(waiting, key=lambda row: row[1] is None):
        count = waits if sweep is None else min(waits, left.get(sweep, waits))
        if max_running is not None:
            count = min(count, max(0, max_running - taken[tenant]))
        if sweep in left:
            left[sweep] -= count
        taken[tenant] += count
        wanted[device] += count
    bound = {kind: wanted[kind] + on_devices[kind] for kind in DeviceKind}
    return {kind: Demand(bound[kind], bound[kind] + wanted[None]) for kind in DeviceKind}
