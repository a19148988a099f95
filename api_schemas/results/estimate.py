"""What a job is expected to come to before it is queued: `POST /v1/jobs:estimate`, and `validate_only`."""

from datetime import datetime

from pydantic import Field

from api_schemas.base import FrozenModel
from api_schemas.enums import DeviceKind, Phase
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.job import JobRequest


class EstimatedStep(FrozenModel):
    """The model after a step. Step 0 is the original, whose numbers are counted, not estimated."""

    step: int
    requested: float
    """Share to be removed, in the unit of the target."""
    attention_sparsity: float
    ffn_sparsity: float
    attention_parameters: int
    feed_forward_parameters: int
    total_parameters: int
    flops: int
    """For one input, as in `layout.flops` of the model."""
    weight_bytes: int
    file_bytes: int
    """Size of the safetensors files: weights and headers."""


class FirstEstimate(FrozenModel):
    """Time of a job when none of its family has finished here: a range, from a short measurement of the worker's device."""

    seconds_range: tuple[float, float]
    """From a worker's claim to the end of the job, without time in the queue: at least and at most. It spans a factor of about
    four, more where the length of the inputs, or how often the job will try something, is not known."""
    phase_seconds_range: dict[Phase, tuple[float, float]] = Field(default_factory=dict)
    """The same by phase. They add up to `seconds_range`."""
    device: DeviceKind
    """Kind of the device that was measured."""
    device_name: str | None
    """The GPU, or the processor."""
    threads: int
    """CPU threads that an engine has there."""
    measured_at: datetime


class JobEstimate(FrozenModel):
    """Sizes are computed from config, header and spec; time and memory come from finished jobs of the same family,
    and before there is one, `first_estimate` has a range of time."""

    steps: tuple[EstimatedStep, ...]
    """For a target with `max_drop`: the original and the smallest model that the spec allows; the result lies between them."""
    seconds: float | None
    """From a worker's claim to the end of the job, without time in the queue. Null: see `reason`."""
    seconds_range: tuple[float, float] | None = None
    """For a target with `max_drop`, whose search may take more or fewer cuts: the minimum and the maximum. `seconds` is for a
    search that tries every cut and confirms the first. Null for other targets, and if `seconds` is null."""
    first_estimate: FirstEstimate | None = None
    """If `seconds` is null because no job of the family has finished: a range from a measurement of the device. Null if `seconds`
    is known, if the number of samples is not, or if no worker has measured its device yet."""
    phase_seconds: dict[Phase, float] = Field(default_factory=dict)
    """The same as `seconds` by phase; the rest is fetching inputs, starting the engine and storing files."""
    host_memory_bytes: int | None
    """Peak memory of the engine's process. Null: see `reason`."""
    device_memory_bytes: int | None
    """Peak memory on the GPU. Null on a CPU; otherwise see `reason`."""
    device: str | None
    """Device of the finished jobs that time and memory are based on."""
    jobs_observed: int
    """Number of these jobs."""
    reason: str | None
    """Why time or memory are not known yet."""
    notes: tuple[str, ...] = ()
    """Remarks about these numbers."""
    warnings: tuple[JobWarning, ...] = ()
    """Warnings that the job would have."""


class JobPreview(FrozenModel):
    """`validate_only`: the job that would run. Nothing was stored."""

    request: JobRequest
    """The request with the preset and all defaults filled in."""
    estimate: JobEstimate | None
    """Null for a hub model, which is unknown until a worker has fetched it."""
    warnings: tuple[JobWarning, ...] = ()
    """Warnings that the job would have."""
