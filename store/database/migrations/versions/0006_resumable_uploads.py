"""Files sent in pieces, and files identified by their SHA-256."""

import sqlalchemy as sa
from alembic import op

from store.database.clock import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "resumable_uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("upload_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_resumable_uploads_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resumable_uploads")),
    )
    op.create_index("ix_resumable_uploads_upload_id", "resumable_uploads", ["upload_id"])
    op.create_table(
        "resumable_parts",
        sa.Column("resumable_id", sa.String(length=32), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["resumable_id"],
            ["resumable_uploads.id"],
            name=op.f("fk_resumable_parts_resumable_id_resumable_uploads"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("resumable_id", "start", name=op.f("pk_resumable_parts")),
    )
    op.create_index("ix_upload_files_tenant_sha256", "upload_files", ["tenant", "sha256"])
    op.create_index("ix_upload_files_key", "upload_files", ["key"])


def downgrade() -> None:
    op.drop_index("ix_upload_files_key", "upload_files")
    op.drop_index("ix_upload_files_tenant_sha256", "upload_files")
    op.drop_table("resumable_parts")
    op.drop_table("resumable_uploads")
