"""when a lease was renewed in place of when it ends: the first is compared with itself alone"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE jobs RENAME COLUMN lease_expires_at TO lease_renewed_at")


def downgrade() -> None:
    op.execute("ALTER TABLE jobs RENAME COLUMN lease_renewed_at TO lease_expires_at")
