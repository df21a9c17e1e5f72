"""labels: what shadows and the control answered, for right answers that come later; and when experiments were closed"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("experiments", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_exposures_experiment_id_at", "exposures", ["experiment_id", "at"])
    op.create_table(
        "paired_answers",
        sa.Column("experiment_id", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("control_class", sa.BigInteger(), nullable=False),
        sa.Column("variant_class", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_paired_answers_experiment_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("experiment_id", "request_id", "variant", name=op.f("pk_paired_answers")),
    )
    op.create_index("ix_paired_answers_request_id", "paired_answers", ["request_id"])
    op.create_index("ix_paired_answers_experiment_id_at", "paired_answers", ["experiment_id", "at"])


def downgrade() -> None:
    op.drop_table("paired_answers")
    op.drop_index("ix_exposures_experiment_id_at", table_name="exposures")
    op.drop_column("experiments", "closed_at")
