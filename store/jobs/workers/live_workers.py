"""Workers as they announce themselves: which exist, what they have, and what they run (docs/adr/0044-capabilities.md)."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, false, func, or_, select
from sqlalchemy.orm import Session

from api_schemas.enums import DeviceKind
from store.database import batches
from store.database.clock import moment, now
from store.database.connection import Database
from store.database.paging import fetch_page
from store.database.tables import Job, Worker
from store.database.upsert import insert_into
from store.jobs.turns import HELD
from store.jobs.workers.capabilities import Capability, Fleet
from store.machine import Disk

KEPT_SECONDS = 1.0
ALIVE = Worker.alive_until >= now()
"""Condition for live workers."""


@dataclass(frozen=True)
class Announcement:
    """Who a worker is and what it has; see `Worker`."""

    id: str
    name: str
    host: str
    device: DeviceKind | None
    device_name: str | None
    device_memory_bytes: int | None
    host_memory_bytes: int

    @property
    def capability(self) -> Capability:
        """What jobs are matched with."""
        return capability(self)


def capability(worker: Announcement | Worker) -> Capability:
    """What jobs are matched with."""
    on_cpu = worker.device is DeviceKind.CPU
    return Capability(worker.device, worker.host_memory_bytes if on_cpu else worker.device_memory_bytes)


def announce(session: Session, worker: Announcement, seconds: float, disk: Disk | None = None) -> None:
    """Record that it is alive for so many seconds; creates its row the first time. `disk`: that of its scratch folder."""
    values = {name: getattr(worker, name) for name in worker.__dataclass_fields__ if name != "id"}
    if disk is not None:
        values |= {"disk_bytes": disk.total, "disk_free_bytes": disk.free}
    seen = {**values, "seen_at": now(), "alive_until": now(plus=seconds)}
    row = insert_into(session, Worker).values(id=worker.id, created_at=now(), **seen)
    session.execute(row.on_conflict_do_update(index_elements=["id"], set_=seen))


def called(column: Any, names: Iterable[str]) -> ColumnElement[bool]:
    """Workers with these names. A name also matches longer ones that begin with it and a colon: `gpu-1` matches `gpu-1:…`."""
    return or_(false(), *(or_(column == name, column.startswith(f"{name}:", autoescape=True)) for name in names))


def forget(session: Session, names: Iterable[str]) -> None:
    """Remove these workers."""
    gone = delete(Worker).where(called(Worker.id, names))
    session.execute(gone.execution_options(synchronize_session=False))


def sweep(database: Database) -> int:
    """Remove workers that no longer counted as alive; returns how many."""
    return batches.remove(database, Worker, Worker.alive_until, 0)


def fleet(session: Session) -> Fleet:
    """What the live workers have: one row per kind of device."""
    memory = func.max(Worker.device_memory_bytes), func.max(Worker.host_memory_bytes)
    # A GPU whose memory is unknown counts as arbitrarily large.
    known = func.count(Worker.device_memory_bytes) == func.count()
    rows = session.execute(select(Worker.device, *memory, known).where(ALIVE).group_by(Worker.device))
    return Fleet.of(
        Capability(device, host if device is DeviceKind.CPU else gpu if all_known else None)
        for device, gpu, host, all_known in rows
    )


class LiveWorkers:
    """The fleet for many polling clients: queried at most once a second, or after this process wrote. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: tuple[int, float, Fleet | None] = (-1, 0.0, None)
        self._reading = threading.Lock()

    def fleet(self, session: Session) -> Fleet:
        """See `fleet`."""
        with self._reading:
            writes, at = self._database.writes, time.monotonic()
            seen_writes, seen_at, found = self._seen
            if found is None or writes != seen_writes or at - seen_at >= KEPT_SECONDS:
                found = fleet(session)
                self._seen = (writes, at, found)
            return found


@dataclass(frozen=True)
class Listed:
    """A worker, and the job that it runs."""

    row: Worker
    alive: bool
    job: tuple[str, str] | None
    """Tenant and identifier."""


def page(session: Session, cursor: str | None, limit: int) -> tuple[Sequence[Listed], str | None]:
    """Newest first, including silent workers that are not removed yet; and the next cursor."""
    rows = fetch_page(session, Worker, select(Worker), cursor, limit)
    held = select(Job.worker, Job.tenant, Job.id).where(
        Job.state.in_(HELD), Job.worker.in_([row.id for row in rows.items])
    )
    jobs = {worker: (tenant, job_id) for worker, tenant, job_id in session.execute(held)}
    at = moment(session)
    listed = [Listed(row, row.alive_until >= at, jobs.get(row.id)) for row in rows.items]
    return listed, rows.next_cursor
