"""Sweeps: jobs that were submitted together, of which a limited number run at once."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_INDEX = "ix_jobs_queued"
_BEFORE = (
    *("tenant", "priority", "created_at", "id", "available_at"),
    *("needs_device", "needs_cpu_bytes", "needs_gpu_bytes"),
)
_OF_SWEEPS = "sweep_id IS NOT NULL"
_LIVING = "state IN ('queued', 'running', 'cancelling', 'paused')"


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=True),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("max_parallel", sa.Integer(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("deleted_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
    )
    _index("ix_sweeps_listed", "sweeps", "deleted_at IS NULL", "tenant", "created_at", "id")
    op.add_column("jobs", sa.Column("sweep_id", sa.String(length=32), nullable=True))
    op.add_column("jobs", sa.Column("sweep_index", sa.Integer(), nullable=True))
    _index("ix_jobs_of_sweep", "jobs", _OF_SWEEPS, "sweep_id", "sweep_index")
    _index("ix_jobs_in_sweeps", "jobs", f"{_LIVING} AND {_OF_SWEEPS}", "sweep_id", "state")
    _queued_by(*_BEFORE, "sweep_id")


def downgrade() -> None:
    _queued_by(*_BEFORE)
    op.drop_index("ix_jobs_in_sweeps", "jobs")
    op.drop_index("ix_jobs_of_sweep", "jobs")
    op.drop_column("jobs", "sweep_index")
    op.drop_column("jobs", "sweep_id")
    op.drop_table("sweeps")


def _queued_by(*columns: str) -> None:
    op.drop_index(_INDEX, "jobs")
    _index(_INDEX, "jobs", "state = 'queued'", *columns)


def _index(name: str, table: str, where: str, *columns: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
