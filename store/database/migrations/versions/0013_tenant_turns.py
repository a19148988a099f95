"""Stores when a tenant had its last turn, instead of searching all its jobs; files sent before are found however many have the
same bytes."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_INDEX, _SENT = "ix_jobs_tenant_claimed_at", "ix_upload_files_sent"


def upgrade() -> None:
    op.create_table(
        "tenant_turns",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("begun_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenant_turns")),
    )
    op.execute(
        "INSERT INTO tenant_turns (tenant, begun_at) "
        "SELECT tenant, max(claimed_at) FROM jobs WHERE claimed_at IS NOT NULL GROUP BY tenant"
    )
    op.drop_index(_INDEX, "jobs")
    _sent_by("tenant", "sha256", "size", "name")


def downgrade() -> None:
    _sent_by("tenant", "sha256")
    op.create_index(_INDEX, "jobs", ["tenant", "claimed_at"])
    op.drop_table("tenant_turns")


def _sent_by(*columns: str) -> None:
    where = sa.text("key IS NOT NULL")
    op.drop_index(_SENT, "upload_files")
    op.create_index(_SENT, "upload_files", columns, postgresql_where=where, sqlite_where=where)
