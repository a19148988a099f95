"""A running job may be asked to yield its worker to one of higher priority."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("yields_to", sa.String(length=32), nullable=True))
    op.add_column("jobs", sa.Column("preemptions", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("jobs", "preemptions")
    op.drop_column("jobs", "yields_to")
