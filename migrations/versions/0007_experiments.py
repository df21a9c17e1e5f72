"""experiments: what is compared, what was counted, and what clients reported"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LIVE = sa.text("state IN ('running', 'paused')")


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("seed", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("unit", sa.JSON(), nullable=False),
        sa.Column("arms", sa.JSON(), nullable=False),
        sa.Column("coverage", sa.Double(), nullable=False),
        sa.Column("shadow", sa.JSON(), nullable=False),
        sa.Column("ramp", sa.JSON(), nullable=True),
        sa.Column("guardrails", sa.JSON(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("auto_rollback", sa.Boolean(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("step_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("etag", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_experiments_model_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_experiments_revision_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
    )
    op.create_index("ix_experiments_model_id", "experiments", ["model_id"])
    op.create_index("ix_experiments_revision_id", "experiments", ["revision_id"])
    op.create_index(
        "uq_experiments_live_model_id",
        "experiments",
        ["model_id"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )

    op.create_table(
        "experiment_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("experiment_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        _of_experiment("experiment_events"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiment_events")),
        sa.UniqueConstraint("experiment_id", "key", name=op.f("uq_experiment_events_experiment_id_key")),
    )
    op.create_index("ix_experiment_events_experiment_id", "experiment_events", ["experiment_id"])

    op.create_table(
        "experiment_counts",
        sa.Column("experiment_id", sa.String(length=32), nullable=False),
        sa.Column("process", sa.String(length=255), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        _of_experiment("experiment_counts"),
        sa.PrimaryKeyConstraint("experiment_id", "process", name=op.f("pk_experiment_counts")),
    )

    op.create_table(
        "exposures",
        sa.Column("experiment_id", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("key", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        _of_experiment("exposures"),
        sa.PrimaryKeyConstraint("experiment_id", "request_id", name=op.f("pk_exposures")),
    )
    op.create_index("ix_exposures_request_id", "exposures", ["request_id"])

    op.create_table(
        "outcomes",
        sa.Column("experiment_id", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.String(length=255), nullable=False),
        sa.Column("metric", sa.String(length=63), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        _of_experiment("outcomes"),
        sa.PrimaryKeyConstraint("experiment_id", "reference", "metric", name=op.f("pk_outcomes")),
    )


def _of_experiment(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["experiment_id"], ["experiments.id"], name=op.f(f"fk_{table}_experiment_id"), ondelete="CASCADE"
    )


def downgrade() -> None:
    for table in ("outcomes", "exposures", "experiment_counts", "experiment_events", "experiments"):
        op.drop_table(table)
