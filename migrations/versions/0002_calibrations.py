"""calibrations: what was found once, for the next job"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calibrations",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("dataset_digest", sa.String(length=64), nullable=False),
        sa.Column("statistics", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_calibrations")),
    )
    op.create_index("ix_calibrations_model_digest", "calibrations", ["model_digest"], unique=False)
    op.create_index("ix_calibrations_dataset_digest", "calibrations", ["dataset_digest"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_calibrations_dataset_digest", "calibrations")
    op.drop_index("ix_calibrations_model_digest", "calibrations")
    op.drop_table("calibrations")
