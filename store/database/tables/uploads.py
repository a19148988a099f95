"""Uploads of models and datasets, their files, and files sent in pieces."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from api_schemas.enums import UploadState
from store.database.clock import now
from store.database.tables.base import ID_LENGTH, KEY_LENGTH, NAME_LENGTH, Base, Owned

THERE = "state IN ('open', 'checking', 'ready')"
"""Of an upload that has not expired and was not deleted. In words, for the sake of partial indexes."""


class Upload(Owned, Base):
    """A model or a dataset, uploaded file by file; immutable once `ready`."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index(
            "ix_uploads_listed",
            "tenant",
            "kind",
            "created_at",
            "id",
            postgresql_where=text(THERE),
            sqlite_where=text(THERE),
        ),
        Index(None, "state", "created_at", "id"),
        Index(None, "gone_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    state: Mapped[UploadState]
    description: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What `complete` found: a ModelLayout or DatasetContents as JSON."""
    left_out: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Names of declared files that are not needed: no bytes of theirs are taken."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What was wrong when it was checked last: a JobError as JSON."""
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of all files together, as they were declared, and of what is kept to be shown of them."""
    created_at: Mapped[datetime] = mapped_column(default=now())
    gone_at: Mapped[datetime | None]
    """Since when its files are gone: it has expired or was deleted."""
    files: Mapped[list["UploadFile"]] = relationship(
        back_populates="upload", order_by="UploadFile.position", cascade="all, delete-orphan", lazy="selectin"
    )


SENT = "key IS NOT NULL"


class UploadFile(Owned, Base):
    """A declared file; `key` names the artifact once the bytes have come and their sha256 was right. Files that are alike
    may share one."""

    __tablename__ = "upload_files"
    __table_args__ = (
        Index(
            "ix_upload_files_sent",
            *("tenant", "sha256", "size", "name"),
            postgresql_where=text(SENT),
            sqlite_where=text(SENT),
        ),
        Index(None, "key"),
    )

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    key: Mapped[str | None] = mapped_column(String(KEY_LENGTH))
    upload: Mapped[Upload] = relationship(back_populates="files")


class DatasetSample(Owned, Base):
    """A row of a dataset that is shown to people (store/uploads/samples.py)."""

    __tablename__ = "dataset_samples"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    split: Mapped[str] = mapped_column(String(NAME_LENGTH))
    row: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str | None] = mapped_column(Text)
    text_pair: Mapped[str | None] = mapped_column(Text)
    label: Mapped[str | None] = mapped_column(Text)
    media: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """WAV or PNG, by the dataset's modality."""
    size: Mapped[int] = mapped_column(Integer)
    """Bytes of `media`."""
    seconds: Mapped[float | None] = mapped_column(Double)
    """Of the whole clip."""
    width: Mapped[int | None] = mapped_column(Integer)
    """Of the whole image, in pixels."""
    height: Mapped[int | None] = mapped_column(Integer)


class UploadCheck(Owned, Base):
    """A dataset that is `checking` (store/uploads/checks.py). The row goes with the answer."""

    __tablename__ = "upload_checks"
    __table_args__ = (Index(None, "tenant", "lease_until"), Index(None, "waits_since"))

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    columns: Mapped[dict[str, Any]] = mapped_column(JSON)
    """As `complete` was told."""
    asked_at: Mapped[datetime] = mapped_column(default=now())
    waits_since: Mapped[datetime] = mapped_column(default=now())
    """Since when it waits for its tenant's turn: since it was asked for, or since the tenant had one."""
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    """Fencing token: rises with every process that takes it."""
    failures: Mapped[int] = mapped_column(Integer, default=0)
    """Of processes that took it and vanished."""
    lease_until: Mapped[datetime | None]
    """Until when it is with one; null while it waits."""


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
    __table_args__ = (Index(None, "key"),)

    resumable_id: Mapped[str] = mapped_column(ForeignKey("resumable_uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(KEY_LENGTH))
