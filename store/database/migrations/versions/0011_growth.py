"""Stored byte counts, partial indexes on the rows that are still looked up, and what retention needs."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant, now

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_LIVING = "state IN ('queued', 'running', 'cancelling', 'paused')"
_THERE = "state IN ('open', 'checking', 'ready')"
_ENDED = "deleted_at IS NULL AND finished_at IS NOT NULL"
_PARTIAL = (
    ("ix_jobs_listed", "jobs", ["tenant", "created_at", "id"], "deleted_at IS NULL"),
    ("ix_jobs_listed_by_state", "jobs", ["tenant", "state", "created_at", "id"], "deleted_at IS NULL"),
    ("ix_jobs_listed_by_model", "jobs", ["tenant", "model_id", "created_at", "id"], "deleted_at IS NULL"),
    ("ix_jobs_queued", "jobs", ["tenant", "priority", "created_at", "id", "available_at"], "state = 'queued'"),
    ("ix_jobs_needed_model", "jobs", ["model_id"], _LIVING),
    ("ix_jobs_needed_dataset", "jobs", ["dataset_id"], _LIVING),
    ("ix_jobs_ended", "jobs", ["finished_at", "id"], _ENDED),
    ("ix_jobs_with_files", "jobs", ["finished_at", "id"], "stored_bytes > 0"),
    ("ix_jobs_with_events", "jobs", ["finished_at", "id"], "events_gone_at IS NULL AND finished_at IS NOT NULL"),
    ("ix_jobs_tombstones", "jobs", ["deleted_at", "id"], "deleted_at IS NOT NULL"),
    ("ix_uploads_listed", "uploads", ["tenant", "kind", "created_at", "id"], _THERE),
    ("ix_upload_files_sent", "upload_files", ["tenant", "sha256"], "key IS NOT NULL"),
)
_WHOLE = (
    ("ix_jobs_state_error_code", "jobs", ["state", "error_code"]),
    ("ix_jobs_claimed_at", "jobs", ["claimed_at"]),
    (
        "ix_job_labels_tenant_key_value_created_at_job_id",
        "job_labels",
        ["tenant", "key", "value", "created_at", "job_id"],
    ),
    ("ix_job_labels_tenant_key_created_at_job_id", "job_labels", ["tenant", "key", "created_at", "job_id"]),
    ("ix_job_logs_created_at", "job_logs", ["created_at"]),
    ("ix_resumable_parts_key", "resumable_parts", ["key"]),
    ("ix_uploads_state_created_at_id", "uploads", ["state", "created_at", "id"]),
    ("ix_uploads_gone_at_id", "uploads", ["gone_at", "id"]),
    ("ix_webhook_deliveries_webhook_id_created_at_id", "webhook_deliveries", ["webhook_id", "created_at", "id"]),
    (
        "ix_webhook_deliveries_webhook_id_state_created_at_id",
        "webhook_deliveries",
        ["webhook_id", "state", "created_at", "id"],
    ),
    ("ix_webhook_deliveries_state_created_at_id", "webhook_deliveries", ["state", "created_at", "id"]),
)
_BEFORE = (
    ("ix_jobs_tenant_created_at", "jobs", ["tenant", "created_at"]),
    ("ix_jobs_claim", "jobs", ["state", "priority", "created_at"]),
    ("ix_jobs_tenant_state", "jobs", ["tenant", "state"]),
    ("ix_jobs_tenant_model_id", "jobs", ["tenant", "model_id"]),
    ("ix_job_labels_tenant_key_value", "job_labels", ["tenant", "key", "value"]),
    ("ix_uploads_tenant_kind_created_at", "uploads", ["tenant", "kind", "created_at"]),
    ("ix_upload_files_tenant_sha256", "upload_files", ["tenant", "sha256"]),
    ("ix_webhook_deliveries_webhook_id_created_at", "webhook_deliveries", ["webhook_id", "created_at"]),
)
_COLUMNS: tuple[tuple[str, sa.Column[Any]], ...] = (
    ("jobs", sa.Column("dataset_id", sa.String(length=255), nullable=True)),
    ("jobs", sa.Column("error_code", sa.String(length=64), nullable=True)),
    ("jobs", sa.Column("events_gone_at", Instant(), nullable=True)),
    ("jobs", sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0")),
    ("job_labels", sa.Column("created_at", Instant(), nullable=False, server_default="1970-01-01 00:00:00.000")),
    ("uploads", sa.Column("size", sa.BigInteger(), nullable=False, server_default="0")),
    ("uploads", sa.Column("gone_at", Instant(), nullable=True)),
)


def upgrade() -> None:
    for table, column in _COLUMNS:
        op.add_column(table, column)
    op.create_table(
        "stored_bytes",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_stored_bytes")),
    )
    op.create_table(
        "maintenance_marks",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("wait_until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_maintenance_marks")),
    )
    _fill()
    for name, table, _ in _BEFORE:
        op.drop_index(name, table)
    for name, table, columns in _WHOLE:
        op.create_index(name, table, columns)
    for name, table, columns, where in _PARTIAL:
        op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def _fill() -> None:
    op.execute("UPDATE jobs SET dataset_id = lineage ->> 'dataset', events_gone_at = deleted_at")
    op.execute("UPDATE jobs SET error_code = error ->> 'code' WHERE state = 'failed'")
    of_steps = "SELECT job_id, sum(size) AS size FROM job_step_files GROUP BY job_id"
    op.execute(f"UPDATE jobs SET stored_bytes = steps.size FROM ({of_steps}) AS steps WHERE steps.job_id = jobs.id")
    op.execute("UPDATE job_labels SET created_at = jobs.created_at FROM jobs WHERE jobs.id = job_labels.job_id")
    of_files = "SELECT upload_id, sum(size) AS size FROM upload_files GROUP BY upload_id"
    op.execute(f"UPDATE uploads SET size = files.size FROM ({of_files}) AS files WHERE files.upload_id = uploads.id")
    # When they were removed was not recorded, so the period in which they answer 410 starts now.
    uploads = sa.table("uploads", sa.column("state", sa.String()), sa.column("gone_at", Instant()))
    gone = uploads.c.state.in_([sa.literal_column("'expired'"), sa.literal_column("'deleted'")])
    op.execute(sa.update(uploads).where(gone).values(gone_at=now()))
    kept = f"SELECT tenant, size FROM uploads WHERE {_THERE} UNION ALL SELECT tenant, stored_bytes FROM jobs"
    op.execute(
        f"INSERT INTO stored_bytes (tenant, size) SELECT tenant, sum(size) FROM ({kept}) AS kept GROUP BY tenant"
    )


def downgrade() -> None:
    for name, table, _, _ in _PARTIAL:
        op.drop_index(name, table)
    for name, table, _ in _WHOLE:
        op.drop_index(name, table)
    for name, table, columns in _BEFORE:
        op.create_index(name, table, columns)
    op.drop_table("maintenance_marks")
    op.drop_table("stored_bytes")
    for table, column in _COLUMNS:
        op.drop_column(table, column.name)
