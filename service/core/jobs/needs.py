"""What a job needs of a worker: the device that its user requested, and memory if finished jobs say how much.

An estimate may be far off for a job that is much larger than the measured ones, because part of their memory does not grow with
the model. A need that keeps a job waiting must be more certain, so only jobs with at least half as many bytes of tensors count.
"""

from collections.abc import Iterable, Sequence
from statistics import median

from sqlalchemy.orm import Session

from api_schemas.enums import DeviceKind
from api_schemas.spec.job import JobRequest
from checkpoints.sizes.cost_model import JobCost, tensor_bytes
from checkpoints.sizes.shape import ModelShape
from service.core.jobs.model_source import ModelSource
from store.jobs import job_costs
from store.jobs.workers.capabilities import Needs

LEAST_SHARE = 0.5

_Measured = tuple[int | None, int | None, int]
"""Of a finished job, in bytes: before it began, the most it had, its tensors."""


def of_job(session: Session, request: JobRequest, model: ModelSource) -> Needs:
    """Of a request that was found able to run."""
    asked, known = request.limits.device, model.known
    if known is None:
        return Needs(asked)
    alike = {
        kind: [job for job in jobs if job.tensor_bytes >= LEAST_SHARE * tensor_bytes(request, known.shape, kind)]
        if asked in (None, kind)
        else []
        for kind, jobs in job_costs.recent_by_kind(session, known.layout.family).items()
    }
    return Needs(
        asked,
        cpu_bytes=host_memory(alike[DeviceKind.CPU], request, known.shape, DeviceKind.CPU),
        gpu_bytes=device_memory(alike[DeviceKind.CUDA], request, known.shape, DeviceKind.CUDA),
    )


def host_memory(jobs: Iterable[JobCost], request: JobRequest, shape: ModelShape, kind: DeviceKind) -> int | None:
    """Of the engine's process, as these jobs say, which ran on devices of that kind."""
    return _memory([_on_host(job) for job in jobs if job.tensors_comparable], tensor_bytes(request, shape, kind))


def device_memory(jobs: Iterable[JobCost], request: JobRequest, shape: ModelShape, kind: DeviceKind) -> int | None:
    """On the GPU."""
    return _memory([_on_device(job) for job in jobs if job.tensors_comparable], tensor_bytes(request, shape, kind))


def _memory(measured: Sequence[_Measured], tensors_of_job: int) -> int | None:
    """As finished jobs grew with their tensors. None where it was not measured."""
    known = [(base, peak, tensors) for base, peak, tensors in measured if base is not None and peak is not None]
    if not known:
        return None
    growth = median((peak - base) / tensors for base, peak, tensors in known)
    return round(median(base for base, _, _ in known) + growth * tensors_of_job)


def _on_host(job: JobCost) -> _Measured:
    return job.base.host, job.peak.host, job.tensor_bytes


def _on_device(job: JobCost) -> _Measured:
    return job.base.device, job.peak.device, job.tensor_bytes
