"""What a job is expected to come to before it is queued: `POST /v1/jobs:estimate`, and `validate_only`."""

from pydantic import Field

from api_schemas.base import FrozenModel
from api_schemas.enums import Phase
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.job import JobRequest


class EstimatedStep(FrozenModel):
    """The model after a step; step 0 is the original, which is counted and not estimated."""

    step: int
    requested: float
    """Share of the target's own unit that is to be gone."""
    attention_sparsity: float
    ffn_sparsity: float
    attention_parameters: int
    feed_forward_parameters: int
    total_parameters: int
    flops: int
    """Of one input, as in the model's own `layout.flops`."""
    weight_bytes: int
    file_bytes: int
    """Of the safetensors files: the weights and their headers."""


class JobEstimate(FrozenModel):
    """Counted from config, header and spec; time and memory from finished jobs of the same family."""

    steps: tuple[EstimatedStep, ...]
    """Where the target is a bound on the drop, the original and the smallest model that the spec can make of it: the result lies
    between the two."""
    seconds: float | None
    """From a worker's claim to the end of the job; waiting in the queue is not counted. Null: see `reason`."""
    seconds_range: tuple[float, float] | None = None
    """Where the target is a bound on the drop, whose search ends sooner or later: least and most, of which `seconds` is the
    case that every cut is tried and the first is confirmed. Null for other targets, and where `seconds` is."""
    phase_seconds: dict[Phase, float] = Field(default_factory=dict)
    """The same by phase; what is left is inputs fetched, the engine started, files stored."""
    host_memory_bytes: int | None
    """Most of the engine's process. Null: see `reason`."""
    device_memory_bytes: int | None
    """Most on the GPU. Null on a CPU, and see `reason`."""
    device: str | None
    """Of the finished jobs that time and memory are taken from."""
    jobs_observed: int
    """How many these are."""
    reason: str | None
    """Why time or memory are not known yet."""
    notes: tuple[str, ...] = ()
    """What else to know of these numbers."""
    warnings: tuple[JobWarning, ...] = ()
    """Those that the job would have."""


class JobPreview(FrozenModel):
    """`validate_only`: what would run. Nothing was stored."""

    request: JobRequest
    """With every default and the preset filled in."""
    estimate: JobEstimate | None
    """Null for a model of the hub, which is not known before a worker has fetched it."""
    warnings: tuple[JobWarning, ...] = ()
    """Those that the job would have."""
