"""What a worker has, what a job needs, and which fits which: as a condition of the claim's single query, and in words.

A job needs a kind of device if the user requested one (`limits.device`), and memory if finished jobs say how much. NULL means no
need, and a worker that does not know what it has may take any job (docs/adr/0044-capabilities.md).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, or_, true

from api_schemas.enums import DeviceKind
from store.database.tables import Job

_TENTH = 2**30 / 10


@dataclass(frozen=True)
class Capability:
    """What a worker has, as far as it matters for matching jobs. None: unknown, and therefore no obstacle."""

    device: DeviceKind | None = None
    memory_bytes: int | None = None
    """Of the GPU, or of the host on a CPU."""


ANY = Capability()


@dataclass(frozen=True)
class Needs:
    """What a job needs of a worker. None: no known need."""

    device: DeviceKind | None = None
    cpu_bytes: int | None = None
    gpu_bytes: int | None = None


NOTHING = Needs()


@dataclass(frozen=True)
class Fleet:
    """What the live workers have: the largest of each kind."""

    kinds: tuple[Capability, ...]

    @classmethod
    def of(cls, workers: Iterable[Capability]) -> "Fleet":
        largest: dict[DeviceKind | None, Capability] = {}
        for worker in workers:
            largest[worker.device] = _larger(largest.get(worker.device, worker), worker)
        return cls(tuple(largest[kind] for kind in (*DeviceKind, None) if kind in largest))

    def can_hold(self) -> ColumnElement[bool]:
        """Jobs that one of them could take; all if none has announced itself."""
        return or_(*map(fits, self.kinds)) if self.kinds else true()

    def waiting_reason(self, needs: Needs) -> str | None:
        """Why none of them will ever take a waiting job; None if one could take it."""
        if not self.kinds:
            return "no worker is running"
        missing = [_missing(each, needs) for each in self.kinds]
        if None in missing:
            return None
        too_small = [words for words in missing if words]
        if len(too_small) == 1:
            return "needs {}; the largest worker has {}".format(*too_small[0])
        if too_small:
            return "needs " + " or ".join("{} (the largest worker has {})".format(*words) for words in too_small)
        gpu = needs.device is DeviceKind.CUDA
        return "needs a worker with a GPU; none is running" if gpu else "needs a worker without a GPU; none is running"


def fits(worker: Capability, row: type[Job] = Job) -> ColumnElement[bool]:
    """Jobs that this worker can hold."""
    if worker.device is None:
        return true()
    conditions = [or_(row.needs_device.is_(None), row.needs_device == worker.device)]
    if worker.memory_bytes is not None:
        needed = row.needs_gpu_bytes if worker.device is DeviceKind.CUDA else row.needs_cpu_bytes
        conditions.append(or_(needed.is_(None), needed <= worker.memory_bytes))
    return and_(*conditions)


def can_hold(worker: Capability, needs: Needs) -> bool:
    """Like `fits`, for values that were read."""
    return _missing(worker, needs) is None


def of_job(job: Job) -> Needs:
    """The needs recorded when it was submitted."""
    return Needs(job.needs_device, job.needs_cpu_bytes, job.needs_gpu_bytes)


def _missing(worker: Capability, needs: Needs) -> tuple[str, ...] | None:
    """What the job needs of the largest worker of a kind, and what that has; empty if another kind is required. None if that
    worker can hold the job."""
    if worker.device is None:
        return None
    if needs.device not in (None, worker.device):
        return ()
    gpu = worker.device is DeviceKind.CUDA
    needed = needs.gpu_bytes if gpu else needs.cpu_bytes
    if needed is None or worker.memory_bytes is None or needed <= worker.memory_bytes:
        return None
    wanted, had = math.ceil(needed / _TENTH) / 10, math.floor(worker.memory_bytes / _TENTH) / 10
    return f"{wanted:g} GiB on a {'GPU' if gpu else 'CPU'}", f"{had:g}"


def _larger(one: Capability, other: Capability) -> Capability:
    unknown = [each for each in (one, other) if each.memory_bytes is None]
    return unknown[0] if unknown else max(one, other, key=lambda each: each.memory_bytes or 0)
