"""Sweeps: jobs that were submitted together."""

from datetime import datetime

from sqlalchemy import Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from api_schemas.api.sweeps import SweepPlan
from store.database.clock import now
from store.database.json_columns import PydanticJSON
from store.database.tables.base import ID_LENGTH, NAME_LENGTH, Base, Owned

_LISTED = text("deleted_at IS NULL")


class Sweep(Owned, Base):
    """What its jobs have in common. How it stands is read off its jobs (`Job.sweep_id`)."""

    __tablename__ = "sweeps"
    __table_args__ = (
        Index("ix_sweeps_listed", "tenant", "created_at", "id", postgresql_where=_LISTED, sqlite_where=_LISTED),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    plan: Mapped[SweepPlan] = mapped_column(PydanticJSON(SweepPlan))
    max_parallel: Mapped[int | None] = mapped_column(Integer)
    """The most of its jobs that run at once. NULL: as many as there are workers for."""
    created_at: Mapped[datetime] = mapped_column(default=now())
    deleted_at: Mapped[datetime | None]
    """Since when nothing but this row is left of it; it goes with the last of its jobs' rows."""
