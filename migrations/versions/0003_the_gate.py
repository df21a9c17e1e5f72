"""the gate: why a variant was rejected, who overrode that, and whether requests to it may share a batch"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("variants") as table:
        table.add_column(sa.Column("reasons", sa.JSON(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("batchable", sa.Boolean(), nullable=True))
        table.add_column(sa.Column("overridden_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("variants") as table:
        table.drop_column("overridden_at")
        table.drop_column("batchable")
        table.drop_column("reasons")
