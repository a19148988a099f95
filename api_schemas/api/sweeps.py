"""What the API answers with of sweeps."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from api_schemas.api.resources import JobError
from api_schemas.base import FrozenModel
from api_schemas.enums import JobState, SweepState
from api_schemas.results.metrics import Latency, Scores, Size
from api_schemas.spec.inputs import HubDataset, ModelReference, UploadedDataset


class PlannedJob(FrozenModel):
    """What one job of a sweep differs in from the others."""

    label: str
    changes: dict[str, Any]
    """Beside `base`, fields of its request."""


class SweepPlan(FrozenModel):
    """What a sweep was submitted with, its jobs in order."""

    model: ModelReference
    dataset: Annotated[UploadedDataset | HubDataset, Field(discriminator="type")]
    jobs: tuple[PlannedJob, ...]


class SweepResource(FrozenModel):
    """A sweep in a list."""

    id: str
    name: str | None
    state: SweepState
    """`queued`, `running`, `paused` or `ended`, as its jobs say."""
    created_at: datetime
    max_parallel: int | None
    jobs: dict[JobState, int]
    """How many of its jobs are in each state; states without any are left out, and so are jobs that are gone."""


class SweepOriginal(FrozenModel):
    """The model as it came, as the first of the jobs measured it."""

    size: Size
    validation: Scores
    test: Scores | None
    latency: tuple[Latency, ...]


class SweepRow(FrozenModel):
    """One job of a sweep, and what it came to. What it came to is null until it has succeeded."""

    index: int
    """Its place, from 0."""
    label: str
    """The spec's `name`, or what it differs in."""
    changes: dict[str, Any]
    job: str
    """`GET /v1/jobs/{id}` has all of it."""
    state: JobState
    deleted: bool = False
    """Nothing is left of the job but this."""
    step: int | None = None
    """The step that is the job's result, which the rest of the row is of; 0 is the original."""
    achieved_sparsity: float | None = None
    """Share of the attention parameters that is gone."""
    size: Size | None = None
    validation: Scores | None = None
    test: Scores | None = None
    latency: tuple[Latency, ...] = ()
    error: JobError | None = None


class SweepFronts(FrozenModel):
    """By cost, the jobs that no other job beats: none has as good a metric on validation for less, or a better one for as little.

    Identifiers, the cheapest first. Validation decides and test is reported, as everywhere.
    """

    parameters: tuple[str, ...] = ()
    flops: tuple[str, ...] = ()
    latency: tuple[str, ...] = ()
    """By the paired speed-up at the first batch size, which a busy machine does not change; a job whose speed-up the noise covers
    counts as fast as the original."""


class SweepDetail(SweepResource):
    """A sweep with its table."""

    model: ModelReference
    dataset: Annotated[UploadedDataset | HubDataset, Field(discriminator="type")]
    metric: str | None = None
    """Which number of `validation` the fronts compare by: `accuracy`, `WER`, …; null before the first job has succeeded."""
    original: SweepOriginal | None = None
    rows: tuple[SweepRow, ...]
    fronts: SweepFronts
