"""Workers, as `GET /v1/workers` answers."""

from datetime import datetime

from api_schemas.base import FrozenModel
from api_schemas.enums import DeviceKind


class WorkerResource(FrozenModel):
    """A process that runs jobs, one at a time."""

    id: str
    """Of the process; a worker that is started again has another."""
    name: str
    """SECATEUR_WORKER_NAME, the same after every restart; else the host."""
    host: str
    device: DeviceKind | None
    """Where its engines compute. Null: it could not tell, and is given any job."""
    device_name: str | None
    """Of a GPU."""
    device_memory_bytes: int | None
    """Of a GPU."""
    host_memory_bytes: int
    """Of the host, as much as an engine may take."""
    started_at: datetime
    seen_at: datetime
    """When it last announced itself."""
    alive: bool
    """False where it has not announced itself for longer than a lease: it does not count, and goes from this list by itself."""
    busy: bool
    """It runs a job."""
    job: str | None
    """Which one; null where it is idle, or the job is another tenant's."""
