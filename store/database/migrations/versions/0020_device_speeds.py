"""How fast the devices of workers are, as each has measured it once."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_speeds",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=16), nullable=False),
        sa.Column("device_name", sa.String(length=128), nullable=True),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("measured_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_device_speeds")),
    )


def downgrade() -> None:
    op.drop_table("device_speeds")
