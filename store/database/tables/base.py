"""What all tables share: constraint names, enums as text, the owner of a row."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import (
    Enum,
    MetaData,
    String,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from api_schemas.api.webhooks import DeliveryState
from api_schemas.enums import AuditOutcome, DeviceKind, JobState, Phase, UploadState
from store.database.clock import Instant
from store.database.tenancy import DEFAULT_TENANT

ID_LENGTH = 32
NAME_LENGTH = 128
KEY_LENGTH = 512
TRACEPARENT_LENGTH = 55

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
        DeviceKind: _vocabulary(DeviceKind),
    }


class Owned:
    """Every row belongs to a tenant; rows are reached through store/database/tenancy.py."""

    tenant: Mapped[str] = mapped_column(String(64), default=DEFAULT_TENANT)
