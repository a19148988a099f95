"""Background checks of datasets, and the problem found in one."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("error", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "upload_checks",
        sa.Column("upload_id", sa.String(length=32), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.Column("waits_since", Instant(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("lease_until", Instant(), nullable=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_checks_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("upload_id", name=op.f("pk_upload_checks")),
    )
    op.create_index("ix_upload_checks_tenant_lease_until", "upload_checks", ["tenant", "lease_until"])
    op.create_index("ix_upload_checks_waits_since", "upload_checks", ["waits_since"])


def downgrade() -> None:
    op.execute("UPDATE uploads SET state = 'open' WHERE state = 'checking'")
    op.drop_table("upload_checks")
    with op.batch_alter_table("uploads") as uploads:
        uploads.drop_column("error")
