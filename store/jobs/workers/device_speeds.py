"""How fast the devices of workers are: measured once for all that are alike (docs/adr/0071-first-estimates.md)."""

from dataclasses import dataclass

from sqlalchemy import and_, case, exists, func, or_, select, update
from sqlalchemy.orm import Session

from api_schemas.enums import DeviceKind
from checkpoints.sizes.device_speed import DeviceSpeed
from store.database.clock import now
from store.database.tables import DeviceSpeedRow, Worker
from store.database.upsert import insert_into
from store.jobs.workers.live_workers import ALIVE


@dataclass(frozen=True)
class DeviceFacts:
    """Which device it is."""

    fingerprint: str
    device: DeviceKind
    name: str | None
    threads: int


def seen(session: Session, fingerprint: str) -> bool:
    """A worker with such a device has started. Whether it has been measured before."""
    row = update(DeviceSpeedRow).where(DeviceSpeedRow.fingerprint == fingerprint).values(seen_at=now())
    return session.scalar(row.returning(DeviceSpeedRow.fingerprint)) is not None


def keep(session: Session, facts: DeviceFacts, speed: DeviceSpeed) -> None:
    """What was just measured, in place of what was known of such devices."""
    values = {
        "device": facts.device, "device_name": facts.name, "threads": facts.threads, "body": speed, "measured_at": now(),
        "seen_at": now(),
    }  # fmt: skip
    row = insert_into(session, DeviceSpeedRow).values(fingerprint=facts.fingerprint, **values)
    session.execute(row.on_conflict_do_update(index_elements=["fingerprint"], set_=values))


def latest(session: Session, device: DeviceKind | None) -> DeviceSpeedRow | None:
    """Of the worker that started last, among those with such a device where one is named; one whose device a live worker has goes
    before all others. None where none was measured.
    """
    # A worker that cannot tell what its device is was measured on the CPU (worker/supervisor/device_speed.py).
    alike = and_(
        func.coalesce(Worker.device, DeviceKind.CPU) == DeviceSpeedRow.device,
        or_(DeviceSpeedRow.device != DeviceKind.CUDA, Worker.device_name == DeviceSpeedRow.device_name),
    )
    gone = case((exists().where(ALIVE, alike), 0), else_=1)
    asked = select(DeviceSpeedRow).order_by(gone, DeviceSpeedRow.seen_at.desc(), DeviceSpeedRow.fingerprint).limit(1)
    return session.scalars(asked if device is None else asked.where(DeviceSpeedRow.device == device)).first()
