"""searches and training: what a job tells of itself, what survives its worker, and the points that a search found"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("detail", sa.JSON(), nullable=True))
        table.add_column(sa.Column("checkpoint_digest", sa.String(length=64), nullable=True))
        table.create_index("ix_jobs_checkpoint_digest", ["checkpoint_digest"], unique=False)
    with op.batch_alter_table("job_events") as table:
        table.add_column(sa.Column("detail", sa.JSON(), nullable=True))
    with op.batch_alter_table("revisions") as table:
        table.add_column(sa.Column("operator_nodes", sa.JSON(), nullable=True))

    op.create_table(
        "points",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=True),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("dataset", sa.String(length=63), nullable=True),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("kept", sa.JSON(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("agreement", sa.Double(), nullable=True),
        sa.Column("sqnr_db", sa.Double(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("speedup", sa.Double(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_points_job_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_points_model_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_points_revision_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_points")),
    )
    op.create_index("ix_points_model_id", "points", ["model_id"], unique=False)
    op.create_index("ix_points_revision_id", "points", ["revision_id"], unique=False)
    op.create_index("ix_points_job_id", "points", ["job_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_points_job_id", "points")
    op.drop_index("ix_points_revision_id", "points")
    op.drop_index("ix_points_model_id", "points")
    op.drop_table("points")
    # Never by copying: SQLite would drop the old table, and with it the rows of others that refer to its rows.
    with op.batch_alter_table("revisions", recreate="never") as table:
        table.drop_column("operator_nodes")
    with op.batch_alter_table("job_events", recreate="never") as table:
        table.drop_column("detail")
    with op.batch_alter_table("jobs", recreate="never") as table:
        table.drop_index("ix_jobs_checkpoint_digest")
        table.drop_column("checkpoint_digest")
        table.drop_column("detail")
