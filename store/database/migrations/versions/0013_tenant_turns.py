"""When a tenant had its last turn is written down, and not looked for among all its jobs."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_INDEX = "ix_jobs_tenant_claimed_at"


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


def downgrade() -> None:
    op.create_index(_INDEX, "jobs", ["tenant", "claimed_at"])
    op.drop_table("tenant_turns")
