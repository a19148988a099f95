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
    """Fields of its request in addition to `base`."""


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
    """`queued`, `running`, `paused` or `ended`; derived from its jobs."""
    created_at: datetime
    max_parallel: int | None
    jobs: dict[JobState, int]
    """Number of jobs in each state; states without jobs and deleted jobs are omitted."""


class SweepOriginal(FrozenModel):
    """The original model, as measured by the first of the jobs."""

    size: Size
    validation: Scores
    test: Scores | None
    latency: tuple[Latency, ...]


class SweepRow(FrozenModel):
    """One job of a sweep and its results, which are null until it has succeeded."""

    index: int
    """Position in the sweep, from 0."""
    label: str
    """The spec's `name`, or how the job differs from the others."""
    changes: dict[str, Any]
    job: str
    """The id for `GET /v1/jobs/{id}`."""
    state: JobState
    deleted: bool = False
    """The job was deleted; only this row is left."""
    step: int | None = None
    """The step that is the job's result, described by the rest of the row; 0 is the original."""
    achieved_sparsity: float | None = None
    """Share of the attention parameters that was removed."""
    size: Size | None = None
    validation: Scores | None = None
    test: Scores | None = None
    latency: tuple[Latency, ...] = ()
    error: JobError | None = None


class SweepFronts(FrozenModel):
    """The Pareto-optimal jobs by cost: no other job has as good a validation metric at a lower cost, or a better one at the
    same cost.

    Job ids, cheapest first. Selection uses validation scores; test scores are only reported.
    """

    parameters: tuple[str, ...] = ()
    flops: tuple[str, ...] = ()
    latency: tuple[str, ...] = ()
    """By the paired speed-up at the first batch size, which does not depend on how busy the machine is. A job whose speed-up is
    within the noise is ranked as equal to the original."""


class SweepDetail(SweepResource):
    """A sweep with its table of results."""

    model: ModelReference
    dataset: Annotated[UploadedDataset | HubDataset, Field(discriminator="type")]
    metric: str | None = None
    """The metric of `validation` used for the fronts: `accuracy`, `WER`, …; null before the first job has succeeded."""
    original: SweepOriginal | None = None
    rows: tuple[SweepRow, ...]
    fronts: SweepFronts
