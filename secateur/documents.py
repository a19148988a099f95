"""What `--json` prints if it is not a resource of the API; `secateur schema COMMAND` has the schema of each."""

from pathlib import Path
from typing import Literal

from api_schemas.base import FrozenModel
from api_schemas.enums import JobState
from api_schemas.errors import ErrorItem
from api_schemas.results.metrics import JobResult, PairedSpeedup, StepMetrics


class Deleted(FrozenModel):
    """A job, sweep, model, dataset or webhook that is deleted."""

    id: str
    deleted: Literal[True] = True


class DownloadedFile(FrozenModel):
    """A file, checked after its download."""

    name: str
    size: int
    """In bytes."""
    sha256: str


class Download(FrozenModel):
    """A downloaded checkpoint."""

    job: str
    step: int
    folder: Path
    files: tuple[DownloadedFile, ...]


class PageAddress(FrozenModel):
    """The page of a job or a sweep."""

    url: str


class LogLine(FrozenModel):
    """A line of the engine's log."""

    line: str


class ComparedMetric(FrozenModel):
    """A model on a split in one number."""

    name: str
    value: float
    higher_is_better: bool


class ComparedStep(FrozenModel):
    """A step beside the original, which is step 0."""

    step: int
    attention_sparsity: float
    """Removed share of the original's attention parameters."""
    ffn_sparsity: float
    """Removed share of the original's feed-forward parameters."""
    metric: ComparedMetric | None
    """On validation."""
    drop: float | None
    """How far the metric is below the original's; negative if it is better, null for step 0."""
    test: ComparedMetric | None
    """On test, which is measured for the original and the result only."""
    parameters: int
    flops: int
    bytes: int
    """Size of the weights' files."""
    speedup: float | None
    """Ratio of medians, at the first batch size."""
    speedup_paired: PairedSpeedup | None


class ComparedJob(FrozenModel):
    """A job with its steps."""

    job: str
    name: str | None
    state: JobState
    result_step: int | None
    """The recommended step; null while there is no result."""
    steps: tuple[ComparedStep, ...]


class SignedIn(FrozenModel):
    """A saved service."""

    profile: str
    url: str
    scopes: tuple[str, ...]
    """What the key allows."""
    file: Path


class SignedOut(FrozenModel):
    """A removed profile."""

    profile: str
    removed: Literal[True] = True


class SavedService(FrozenModel):
    """A saved service, without its key."""

    profile: str
    url: str
    has_key: bool


class PruneOutput(FrozenModel):
    """What `secateur prune` wrote: a folder `step-N` in `out` for each of the steps."""

    out: Path
    result: JobResult | None
    steps: tuple[StepMetrics, ...]


class Converted(FrozenModel):
    """A converted checkpoint."""

    out: Path
    architecture: str
    warnings: tuple[str, ...]


class Started(FrozenModel):
    """A service that is ready."""

    url: str
    pid: int
    """Of `secateur up`; SIGTERM stops the whole service."""
    data_dir: Path


class Version(FrozenModel):
    """The installed version."""

    version: str


class CommandError(FrozenModel):
    """Why a command failed."""

    code: str
    """Stable; docs/errors.md lists those of the service."""
    title: str
    detail: str
    pointers: tuple[str, ...]
    """JSON pointers to what is wrong in the request or in a file."""
    errors: tuple[ErrorItem, ...]
    """All problems."""
    job: str | None
    """The job that failed or was cancelled."""
    status: int | None
    """HTTP status; null if there was no response."""
    request_id: str | None
    """Identifies the request in the operator's log."""
    retry_after: float | None
    """Seconds after which a retry may succeed."""
    exit_status: int
    """The command's own exit status."""


class Failure(FrozenModel):
    """What every command prints on standard error if it fails."""

    error: CommandError
