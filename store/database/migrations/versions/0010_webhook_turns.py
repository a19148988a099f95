"""Turns between webhook receivers: which deliveries are being sent, when each receiver was last tried, and how often it timed
out."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("tried_at", Instant(), nullable=True))
    op.add_column("webhooks", sa.Column("timeouts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("webhooks", sa.Column("timed_out_at", Instant(), nullable=True))
    op.add_column("webhook_deliveries", sa.Column("sending_until", Instant(), nullable=True))
    op.drop_index("ix_webhook_deliveries_state_due_at", "webhook_deliveries")
    op.create_index("ix_webhook_deliveries_sending_until", "webhook_deliveries", ["sending_until"])
    op.create_index(
        "ix_webhook_deliveries_webhook_id_state_due_at", "webhook_deliveries", ["webhook_id", "state", "due_at"]
    )


def downgrade() -> None:
    op.drop_index("ix_webhook_deliveries_webhook_id_state_due_at", "webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_sending_until", "webhook_deliveries")
    op.create_index("ix_webhook_deliveries_state_due_at", "webhook_deliveries", ["state", "due_at"])
    op.drop_column("webhook_deliveries", "sending_until")
    op.drop_column("webhooks", "timed_out_at")
    op.drop_column("webhooks", "timeouts")
    op.drop_column("webhooks", "tried_at")
