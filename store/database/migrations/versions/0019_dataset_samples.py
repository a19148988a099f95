"""Sample rows of a dataset. Datasets that were checked before have none."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_samples",
        sa.Column("upload_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=128), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("text_pair", sa.Text(), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("media", sa.LargeBinary(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_dataset_samples_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("upload_id", "number", name=op.f("pk_dataset_samples")),
    )


def downgrade() -> None:
    sizes = "(SELECT coalesce(sum(size), 0) FROM dataset_samples WHERE dataset_samples.{0} = {1})"
    op.execute(f"UPDATE uploads SET size = size - {sizes.format('upload_id', 'uploads.id')}")
    op.execute(f"UPDATE stored_bytes SET size = size - {sizes.format('tenant', 'stored_bytes.tenant')}")
    op.drop_table("dataset_samples")
