"""Pause, fair order, running time, microbatch, the saved state of a recovery, and the log of every attempt."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("claimed_at", Instant(), nullable=True))
    op.add_column("jobs", sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("ran_seconds", sa.Double(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("microbatch", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("training", sa.JSON(), nullable=True))
    op.add_column("job_steps", sa.Column("expired", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_jobs_tenant_state", "jobs", ["tenant", "state"])
    op.create_index("ix_jobs_tenant_claimed_at", "jobs", ["tenant", "claimed_at"])
    op.create_table(
        "job_logs",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_logs_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "attempt", "start", name=op.f("pk_job_logs")),
    )


def downgrade() -> None:
    op.drop_table("job_logs")
    op.drop_index("ix_jobs_tenant_claimed_at", "jobs")
    op.drop_index("ix_jobs_tenant_state", "jobs")
    op.drop_column("job_steps", "expired")
    for column in ("training", "microbatch", "ran_seconds", "pause_requested", "claimed_at"):
        op.drop_column("jobs", column)
