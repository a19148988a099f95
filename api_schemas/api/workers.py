"""Workers, as `GET /v1/workers` answers."""

from datetime import datetime

from api_schemas.base import FrozenModel
from api_schemas.enums import DeviceKind


class WorkerResource(FrozenModel):
    """A process that runs jobs, one at a time."""

    id: str
    """Id of the process; it changes when the worker restarts."""
    name: str
    """SECATEUR_WORKER_NAME, the same after every restart, or else the host name."""
    host: str
    device: DeviceKind | None
    """Where its engines run. Null if it could not be detected; such a worker is given any job."""
    device_name: str | None
    """Name of the GPU."""
    device_memory_bytes: int | None
    """Memory of the GPU."""
    host_memory_bytes: int
    """Memory of the host that an engine can use."""
    started_at: datetime
    seen_at: datetime
    """When it last announced itself."""
    alive: bool
    """False if it has not announced itself for longer than a lease. It then no longer counts, and leaves the
    list automatically."""
    busy: bool
    """Whether it is running a job."""
    job: str | None
    """The job it is running; null if it is idle or if the job belongs to another tenant."""
