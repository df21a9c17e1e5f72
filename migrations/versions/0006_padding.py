"""padding: the axes along which sequences may be padded"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("variants") as table:
        table.add_column(sa.Column("padding", sa.JSON(), nullable=True))


def downgrade() -> None:
    # Never by copying: SQLite would drop the old table, and with it the rows of others that refer to its rows.
    with op.batch_alter_table("variants", recreate="never") as table:
        table.drop_column("padding")
