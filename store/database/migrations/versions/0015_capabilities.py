"""Workers announce what they have, and jobs state what they need."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_INDEX = "ix_jobs_queued"
_BEFORE = ("tenant", "priority", "created_at", "id", "available_at")
_NEEDS = ("needs_device", "needs_cpu_bytes", "needs_gpu_bytes")


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("host", sa.String(length=128), nullable=False),
        sa.Column("device", sa.String(length=16), nullable=True),
        sa.Column("device_name", sa.String(length=128), nullable=True),
        sa.Column("device_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("host_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("alive_until", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index("ix_workers_alive_until", "workers", ["alive_until"])
    op.add_column("jobs", sa.Column("needs_device", sa.String(length=16), nullable=True))
    op.add_column("jobs", sa.Column("needs_cpu_bytes", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("needs_gpu_bytes", sa.BigInteger(), nullable=True))
    _queued_by(*_BEFORE, *_NEEDS)


def downgrade() -> None:
    _queued_by(*_BEFORE)
    for column in _NEEDS:
        op.drop_column("jobs", column)
    op.drop_table("workers")


def _queued_by(*columns: str) -> None:
    where = sa.text("state = 'queued'")
    op.drop_index(_INDEX, "jobs")
    op.create_index(_INDEX, "jobs", columns, postgresql_where=where, sqlite_where=where)
