"""Workers, as they announce themselves, and how fast their devices are."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from api_schemas.enums import DeviceKind
from checkpoints.sizes.device_speed import DeviceSpeed
from store.database.clock import now
from store.database.json_columns import PydanticJSON
from store.database.tables.base import NAME_LENGTH, Base

FINGERPRINT_LENGTH = 64


class Worker(Base):
    """A process that claims jobs: one device. Nobody's, since it works for every tenant (docs/adr/0044-capabilities.md)."""

    __tablename__ = "workers"
    __table_args__ = (Index(None, "alive_until"),)

    id: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    """As what it claims jobs (`Job.worker`); no other process has it, before or after."""
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    """What people call it: SECATEUR_WORKER_NAME, else its host."""
    host: Mapped[str] = mapped_column(String(NAME_LENGTH))
    device: Mapped[DeviceKind | None]
    """NULL where it is not known: it is given any job."""
    device_name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    device_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    host_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    """Of the host, as much as an engine may take (store/machine.py)."""
    disk_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Of the disk of its scratch folder; NULL of workers of before."""
    disk_free_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now())
    seen_at: Mapped[datetime]
    alive_until: Mapped[datetime]
    """As `Job.lease_until`: where nothing was heard until then, it counts as gone."""


class DeviceSpeedRow(Base):
    """How fast a device is, measured once for all workers that are alike: what the time of a first job is estimated from."""

    __tablename__ = "device_speeds"

    fingerprint: Mapped[str] = mapped_column(String(FINGERPRINT_LENGTH), primary_key=True)
    """Of device, processor, threads and torch's version."""
    device: Mapped[DeviceKind]
    device_name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    """Of the GPU, or of the processor."""
    threads: Mapped[int] = mapped_column(Integer)
    body: Mapped[DeviceSpeed] = mapped_column(PydanticJSON(DeviceSpeed))
    measured_at: Mapped[datetime] = mapped_column(default=now())
    seen_at: Mapped[datetime]
    """When a worker with such a device last started."""
