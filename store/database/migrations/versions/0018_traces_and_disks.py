"""The trace of a job and of a message, and the free disk space of workers."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("jobs", "traceparent", sa.String(length=55)),
    ("outbox", "traceparent", sa.String(length=55)),
    ("workers", "disk_bytes", sa.BigInteger()),
    ("workers", "disk_free_bytes", sa.BigInteger()),
)


def upgrade() -> None:
    for table, column, kind in _COLUMNS:
        op.add_column(table, sa.Column(column, kind, nullable=True))


def downgrade() -> None:
    for table, column, _ in _COLUMNS:
        op.drop_column(table, column)
