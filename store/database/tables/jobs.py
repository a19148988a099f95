"""Jobs, their steps, events, logs and labels, and the costs of finished jobs."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api_schemas.api.resources import JobError, JobProgress
from api_schemas.enums import DeviceKind, JobState, Phase
from api_schemas.results.events import JOB_EVENT_BODY, JobEventBody
from api_schemas.results.metrics import DataSummary, JobResult, JobWarning, StepMetrics
from api_schemas.spec.job import JobRequest
from api_schemas.spec.labels import LABEL_KEY_LENGTH, LABEL_VALUE_LENGTH
from checkpoints.sizes.cost_model import JobCost
from store.database.clock import now
from store.database.json_columns import PydanticJSON
from store.database.tables.base import ID_LENGTH, KEY_LENGTH, NAME_LENGTH, TRACEPARENT_LENGTH, Base, Owned

LIVING = "state IN ('queued', 'running', 'cancelling', 'paused')"
"""Of a job that has not ended. In words and not in parameters: only so is a query known to need no more than a partial index."""
QUEUED = "state = 'queued'"
IN_SWEEPS = f"{LIVING} AND sweep_id IS NOT NULL"
"""Of a job of a sweep that has not ended."""
NEEDS = ("needs_device", "needs_cpu_bytes", "needs_gpu_bytes")
"""In the index of what waits: a claim passes over jobs that its worker cannot hold without reading them."""


def _partial(name: str, where: str, *columns: str) -> Index:
    """An index of some rows: what has ended, or was deleted, is not in the way of what is looked for."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


class TrainingFile(BaseModel):
    """The newest state of a step's recovery; durable under `key`, forgotten once the step is committed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    epoch: int
    """Epochs of the recovery that are done."""
    key: str
    size: int
    sha256: str


class Job(Owned, Base):
    """A job: what was asked, where it stands, and who holds it (docs/states.md)."""

    __tablename__ = "jobs"
    __table_args__ = (
        # Lists
        _partial("ix_jobs_listed", "deleted_at IS NULL", "tenant", "created_at", "id"),
        _partial("ix_jobs_listed_by_state", "deleted_at IS NULL", "tenant", "state", "created_at", "id"),
        _partial("ix_jobs_listed_by_model", "deleted_at IS NULL", "tenant", "model_id", "created_at", "id"),
        # Whose turn it is
        _partial(
            "ix_jobs_queued", QUEUED, "tenant", "priority", "created_at", "id", "available_at", *NEEDS, "sweep_id"
        ),
        # Sweeps: their jobs in order, and whether any waits or runs
        _partial("ix_jobs_of_sweep", "sweep_id IS NOT NULL", "sweep_id", "sweep_index"),
        _partial("ix_jobs_in_sweeps", IN_SWEEPS, "sweep_id", "state"),
        # What jobs that have not ended need
        _partial("ix_jobs_needed_model", LIVING, "model_id"),
        _partial("ix_jobs_needed_dataset", LIVING, "dataset_id"),
        # Retention: each has what is still to be let go of, the oldest end first
        _partial("ix_jobs_ended", "deleted_at IS NULL AND finished_at IS NOT NULL", "finished_at", "id"),
        _partial("ix_jobs_with_files", "stored_bytes > 0", "finished_at", "id"),
        _partial("ix_jobs_with_events", "events_gone_at IS NULL AND finished_at IS NOT NULL", "finished_at", "id"),
        _partial("ix_jobs_tombstones", "deleted_at IS NOT NULL", "deleted_at", "id"),
        # Numbers for the operator, leases that have run out
        Index(None, "state", "error_code"),
        Index(None, "claimed_at"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    request: Mapped[JobRequest] = mapped_column(PydanticJSON(JobRequest))
    lineage: Mapped[dict[str, str]] = mapped_column(JSON)
    """Where model and data came from; ends up in pruning.json."""
    model_id: Mapped[str | None] = mapped_column(String(255))
    """`lineage["model"]`, to be searched by."""
    dataset_id: Mapped[str | None] = mapped_column(String(255))
    """Likewise."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    needs_device: Mapped[DeviceKind | None]
    """What a worker has to have (store/jobs/workers/capabilities.py). NULL: nothing is known, as of jobs of before."""
    needs_cpu_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Memory of the host, where it runs on a CPU."""
    needs_gpu_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Memory of the GPU, where it runs on one."""
    sweep_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    """The sweep that it is of, whose `max_parallel` the claim keeps (store/jobs/turns.py)."""
    sweep_index: Mapped[int | None] = mapped_column(Integer)
    """Its place there, from 0."""
    created_at: Mapped[datetime] = mapped_column(default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    state: Mapped[JobState]
    phase: Mapped[Phase | None]
    progress: Mapped[JobProgress | None] = mapped_column(PydanticJSON(JobProgress))
    data: Mapped[DataSummary | None] = mapped_column(PydanticJSON(DataSummary))
    result: Mapped[JobResult | None] = mapped_column(PydanticJSON(JobResult))
    error: Mapped[JobError | None] = mapped_column(PydanticJSON(JobError))
    warnings: Mapped[tuple[JobWarning, ...] | None] = mapped_column(PydanticJSON(TypeAdapter(tuple[JobWarning, ...])))
    """What was known of its inputs when it was submitted; what the engine finds is in `data`."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    """Of `error`, where the job has failed: to be counted by."""

    epoch: Mapped[int] = mapped_column(Integer, default=0)
    """Fencing token: rises at every claim, and every later write of the claimer must name it."""
    worker: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    """Who claimed it last."""
    claimed_at: Mapped[datetime | None]
    """When it was claimed last."""
    lease_until: Mapped[datetime | None]
    available_at: Mapped[datetime | None]
    """A queued job is not claimed before this moment: the wait after an unplanned end."""
    failures: Mapped[int] = mapped_column(Integer, default=0)
    """Unplanned ends since the last committed step."""
    pause_requested: Mapped[bool] = mapped_column(default=False)
    """A running job is to stop after the step that runs."""
    yields_to: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    """The job of higher priority that it is to hand its worker to, while it runs; that it handed it to, while it is queued."""
    preemptions: Mapped[int] = mapped_column(Integer, default=0)
    """How often it has done so."""
    ran_seconds: Mapped[float] = mapped_column(default=0.0)
    """How long workers have held it, as their heartbeats counted."""
    microbatch: Mapped[int | None] = mapped_column(Integer)
    """The most samples of one pass, once the job has run out of memory."""
    training: Mapped[TrainingFile | None] = mapped_column(PydanticJSON(TrainingFile))
    """Where the recovery of the next step can go on, after an attempt that did not finish it."""
    last_step: Mapped[int | None] = mapped_column(Integer)
    """The newest committed step; 0 is the original model's."""
    last_seq: Mapped[int] = mapped_column(Integer, default=0)
    """Number of the newest event."""
    events_gone_at: Mapped[datetime | None]
    """Since when its events are gone, which are kept for a time after its end."""
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of the files of its steps, as they count against the tenant's quota (store/database/stored_bytes.py)."""
    deleted_at: Mapped[datetime | None]
    """Since when nothing but this row is left of the job."""
    traceparent: Mapped[str | None] = mapped_column(String(TRACEPARENT_LENGTH))
    """The span of the request that made it, of which its attempts are parts (store/tracing); NULL where nothing was traced."""

    @property
    def attempts(self) -> int:
        """How often a worker has claimed the job."""
        return self.epoch


class JobLabel(Owned, Base):
    """A label of a job, beside the request that it came with: for selecting by."""

    __tablename__ = "job_labels"
    __table_args__ = (
        Index(None, "tenant", "key", "value", "created_at", "job_id"),
        Index(None, "tenant", "key", "created_at", "job_id"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(LABEL_KEY_LENGTH), primary_key=True)
    value: Mapped[str] = mapped_column(String(LABEL_VALUE_LENGTH))
    created_at: Mapped[datetime] = mapped_column(default=now())
    """As of the job, so that a list by label is in order without looking at the jobs."""


class JobStep(Owned, Base):
    """A committed step. Its files exist, complete and unchanging, exactly when this row does."""

    __tablename__ = "job_steps"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer)
    metrics: Mapped[StepMetrics] = mapped_column(PydanticJSON(StepMetrics))
    downloadable: Mapped[bool]
    """False where the folder holds no model: step 0 keeps metrics only."""
    expired: Mapped[bool] = mapped_column(default=False)
    """Its files have been given up after their time."""
    created_at: Mapped[datetime] = mapped_column(default=now())
    files: Mapped[list["JobStepFile"]] = relationship(
        order_by="JobStepFile.name", cascade="all, delete-orphan", lazy="selectin"
    )


class JobStepFile(Owned, Base):
    """One file of a committed step; `name` is its path inside the step's folder, with forward slashes."""

    __tablename__ = "job_step_files"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "step"], ["job_steps.job_id", "job_steps.step"], ondelete="CASCADE"),
    )

    job_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(KEY_LENGTH))


class JobEventRow(Owned, Base):
    """What happened to a job, numbered from 1 without gaps."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now())
    body: Mapped[JobEventBody] = mapped_column(PydanticJSON(JOB_EVENT_BODY))


class JobLogRow(Owned, Base):
    """A piece of what the engine wrote to its log in one attempt (epoch); `start` counts bytes from the attempt's first."""

    __tablename__ = "job_logs"
    __table_args__ = (Index(None, "created_at"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int] = mapped_column(Integer)
    """Bytes of `text` in UTF-8."""
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now())


class TenantTurn(Owned, Base):
    """When a job of the tenant was last claimed: whose turn it is goes by that, and jobs are too many to be asked."""

    __tablename__ = "tenant_turns"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    begun_at: Mapped[datetime]


class JobCostRow(Base):
    """What a finished job took, as future ones are estimated by. Nobody's: it says nothing of whose job it was."""

    __tablename__ = "observations"
    __table_args__ = (Index(None, "family", "created_at"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    family: Mapped[str] = mapped_column(String(64))
    device: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now())
    body: Mapped[JobCost] = mapped_column(PydanticJSON(JobCost))
