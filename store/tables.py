"""The tables. One model for SQLite and PostgreSQL; store/migrations makes them.

Only store/transitions.py writes `jobs.state`, and it alone inserts into `job_steps` and `job_events`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from api_schemas.enums import AuditOutcome, JobState, KeyScope, Phase, UploadState
from api_schemas.events import JOB_EVENT_BODY, JobEventBody
from api_schemas.labels import LABEL_KEY_LENGTH, LABEL_VALUE_LENGTH
from api_schemas.metrics import DataSummary, JobResult, StepMetrics
from api_schemas.observation import Observation
from api_schemas.resources import JobError, JobProgress
from api_schemas.spec import JobRequest
from api_schemas.webhooks import DeliveryState
from store.clock import Instant, now
from store.documents import Document
from store.tenancy import DEFAULT_TENANT
from store.training import TrainingFile

ID_LENGTH = 32
NAME_LENGTH = 128
KEY_LENGTH = 512

# Names for every constraint, so that migrations can address them on both databases.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def _vocabulary(enum: type[StrEnum]) -> Enum:
    """A closed vocabulary as plain text: a new word needs no migration."""
    return Enum(enum, native_enum=False, length=16, values_callable=lambda words: [word.value for word in words])


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {
        datetime: Instant(),
        JobState: _vocabulary(JobState),
        Phase: _vocabulary(Phase),
        UploadState: _vocabulary(UploadState),
        DeliveryState: _vocabulary(DeliveryState),
        AuditOutcome: _vocabulary(AuditOutcome),
    }


class Owned:
    """Every row belongs to a tenant; rows are reached through store/tenancy.py."""

    tenant: Mapped[str] = mapped_column(String(64), default=DEFAULT_TENANT)


class Upload(Owned, Base):
    """A model or a dataset, uploaded file by file; immutable once `ready`."""

    __tablename__ = "uploads"
    __table_args__ = (Index(None, "tenant", "kind", "created_at"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    state: Mapped[UploadState]
    description: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What `complete` found: a ModelLayout or DatasetContents as JSON."""
    created_at: Mapped[datetime] = mapped_column(default=now())
    files: Mapped[list["UploadFile"]] = relationship(
        back_populates="upload", order_by="UploadFile.position", cascade="all, delete-orphan", lazy="selectin"
    )


class UploadFile(Owned, Base):
    """A declared file; `key` names the artifact once the bytes have come and their sha256 was right. Files that are alike
    may share one."""

    __tablename__ = "upload_files"
    __table_args__ = (Index(None, "tenant", "sha256"), Index(None, "key"))

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    key: Mapped[str | None] = mapped_column(String(KEY_LENGTH))
    upload: Mapped[Upload] = relationship(back_populates="files")


class ResumableUpload(Owned, Base):
    """A declared file that comes in pieces; `offset` bytes of it are kept (core/resumable.py)."""

    __tablename__ = "resumable_uploads"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    size: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger, default=0)
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    """Fencing token: rises with every request that sends bytes; an earlier one that still runs writes nothing more."""
    created_at: Mapped[datetime] = mapped_column(default=now())


class ResumablePart(Owned, Base):
    """A piece that has come: bytes [start, start + size) of the file."""

    __tablename__ = "resumable_parts"

    resumable_id: Mapped[str] = mapped_column(ForeignKey("resumable_uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(KEY_LENGTH))


class Job(Owned, Base):
    """A job: what was asked, where it stands, and who holds it (docs/states.md)."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "tenant", "created_at"),
        Index("ix_jobs_claim", "state", "priority", "created_at"),
        Index(None, "tenant", "state"),
        Index(None, "tenant", "claimed_at"),
        Index(None, "tenant", "model_id"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    request: Mapped[JobRequest] = mapped_column(Document(JobRequest))
    lineage: Mapped[dict[str, str]] = mapped_column(JSON)
    """Where model and data came from; ends up in pruning.json."""
    model_id: Mapped[str | None] = mapped_column(String(255))
    """`lineage["model"]`, to be searched by."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    state: Mapped[JobState]
    phase: Mapped[Phase | None]
    progress: Mapped[JobProgress | None] = mapped_column(Document(JobProgress))
    data: Mapped[DataSummary | None] = mapped_column(Document(DataSummary))
    result: Mapped[JobResult | None] = mapped_column(Document(JobResult))
    error: Mapped[JobError | None] = mapped_column(Document(JobError))

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
    ran_seconds: Mapped[float] = mapped_column(default=0.0)
    """How long workers have held it, as their heartbeats counted."""
    microbatch: Mapped[int | None] = mapped_column(Integer)
    """The most samples of one pass, once the job has run out of memory."""
    training: Mapped[TrainingFile | None] = mapped_column(Document(TrainingFile))
    """Where the recovery of the next step can go on, after an attempt that did not finish it."""
    last_step: Mapped[int | None] = mapped_column(Integer)
    """The newest committed step; 0 is the original model's."""
    last_seq: Mapped[int] = mapped_column(Integer, default=0)
    """Number of the newest event."""
    deleted_at: Mapped[datetime | None]
    """Since when nothing but this row is left of the job."""

    @property
    def attempts(self) -> int:
        """How often a worker has claimed the job."""
        return self.epoch


class JobLabel(Owned, Base):
    """A label of a job, beside the request that it came with: for selecting by."""

    __tablename__ = "job_labels"
    __table_args__ = (Index(None, "tenant", "key", "value"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(LABEL_KEY_LENGTH), primary_key=True)
    value: Mapped[str] = mapped_column(String(LABEL_VALUE_LENGTH))


class JobStep(Owned, Base):
    """A committed step. Its files exist, complete and unchanging, exactly when this row does."""

    __tablename__ = "job_steps"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer)
    metrics: Mapped[StepMetrics] = mapped_column(Document(StepMetrics))
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
    body: Mapped[JobEventBody] = mapped_column(Document(JOB_EVENT_BODY))


class JobLogRow(Owned, Base):
    """A piece of what the engine wrote to its log in one attempt (epoch); `start` counts bytes from the attempt's first."""

    __tablename__ = "job_logs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int] = mapped_column(Integer)
    """Bytes of `text` in UTF-8."""
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now())


class IdempotencyKey(Owned, Base):
    """A request that is answered once, and its answer when there is one (store/idempotency.py)."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (PrimaryKeyConstraint("tenant", "key"), Index(None, "expires_at"))

    key: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the request."""
    token: Mapped[str] = mapped_column(String(32))
    """Of the one attempt that may write the answer."""
    held_until: Mapped[datetime]
    """Until when that attempt is waited for."""
    expires_at: Mapped[datetime]
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    body: Mapped[str | None] = mapped_column(Text)


class ObservationRow(Base):
    """What a finished job took, as future ones are estimated by. Nobody's: it says nothing of whose job it was."""

    __tablename__ = "observations"
    __table_args__ = (Index(None, "family", "created_at"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    family: Mapped[str] = mapped_column(String(64))
    device: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now())
    body: Mapped[Observation] = mapped_column(Document(Observation))


class OutboxMessage(Owned, Base):
    """A message to publish, written in the transaction that makes it true and removed once it was published."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    topic: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(default=now())


class Webhook(Owned, Base):
    """Whom to tell, and of what. `secret` signs, so it is kept as it is."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "tenant", "created_at"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(JSON)
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failing_since: Mapped[datetime | None]
    secret: Mapped[str] = mapped_column(String(NAME_LENGTH))
    previous_secret: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    previous_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now())


class WebhookDelivery(Owned, Base):
    """An event on its way to a webhook, with what came of the last try."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "state", "due_at"), Index(None, "webhook_id", "created_at"))

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    message_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    type: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[DeliveryState] = mapped_column(default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    """Rises with every try that begins; what is written of a try names its number."""
    due_at: Mapped[datetime] = mapped_column(default=now())
    """Of a pending one: not before this moment. A try that begins moves it on by its lease."""
    delivered_at: Mapped[datetime | None]
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None] = mapped_column(Text)
    last_latency: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now())


class ApiKey(Owned, Base):
    """What a caller is known by; of its secret only the hash is here (docs/adr/0010-keys.md)."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "tenant", "created_at"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[KeyScope]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To the minute."""


class BrowserSession(Owned, Base):
    """Somebody who signed in with a key; of the session's token only the hash is here."""

    __tablename__ = "browser_sessions"
    __table_args__ = (Index(None, "expires_at"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime]


class AuditRow(Owned, Base):
    """Who changed what. Written in the transaction of the change, where there was one."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "tenant", "created_at"), Index(None, "created_at"))

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    key_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    """None where the service runs without keys, and for the operator's own commands."""
    action: Mapped[str] = mapped_column(String(32))
    object_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    outcome: Mapped[AuditOutcome]
    request_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now())
