"""The tables of the registry. State changes live in the module of each noun, not here."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Json = dict[str, Any]

#: JSON that may be absent: None is SQL's NULL, not JSON's.
_OPTIONAL_JSON = JSON(none_as_null=True)


def now() -> datetime:
    return datetime.now(UTC)


class Instant(TypeDecorator[datetime]):
    """A point in time, always UTC; SQLite drops the zone and gets it back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant, Json: JSON, list[Json]: JSON, list[str]: JSON}  # noqa: RUF012


class Model(Base):
    """A name, under which revisions are uploaded."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    next_version: Mapped[int] = mapped_column(default=1)
    default_variant_id: Mapped[int | None] = mapped_column(
        ForeignKey("variants.id", use_alter=True, ondelete="SET NULL")
    )
    created_at: Mapped[datetime] = mapped_column(default=now)

    revisions: Mapped[list["Revision"]] = relationship(
        back_populates="model", order_by="Revision.number", cascade="all, delete-orphan", passive_deletes=True
    )
    default_variant: Mapped["Variant | None"] = relationship(foreign_keys=[default_variant_id], post_update=True)


class Revision(Base):
    """One upload of new bytes. `digest` identifies what was uploaded, external data included.

    `operator_nodes` names the first node of each of `operators`; NULL for uploads of the time before it was kept.
    """

    __tablename__ = "revisions"
    __table_args__ = (UniqueConstraint("model_id", "number"), UniqueConstraint("model_id", "digest"))

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    opset: Mapped[int]
    inputs: Mapped[list[Json]]
    outputs: Mapped[list[Json]]
    operators: Mapped[Json]
    operator_nodes: Mapped[Json | None] = mapped_column(_OPTIONAL_JSON)
    float_bytes: Mapped[int] = mapped_column(BigInteger)
    class_names: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)

    model: Mapped[Model] = relationship(back_populates="revisions")
    variants: Mapped[list["Variant"]] = relationship(
        back_populates="revision",
        order_by="Variant.version",
        cascade="all, delete-orphan",
        passive_deletes=True,
    )


class Dataset(Base):
    """Samples for calibration and evaluation, kept as one uncompressed `.npz` blob."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    samples: Mapped[int]
    arrays: Mapped[list[Json]]
    labelled: Mapped[bool]
    class_names: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Variant(Base):
    """One servable artifact. The label is unique within its revision, the version within its model.

    `reasons` say why the verdict is "rejected"; such a variant serves only after it was overridden. `batchable`:
    answers do not depend on the batch; NULL where that was not tested. `padding`: the `SequenceAxes` along which zeros
    change no answer; NULL where that is not proved. `unloaded_at`: when an operator took it out of memory; until it is
    loaded again, it answers nothing.
    """

    __tablename__ = "variants"
    __table_args__ = (UniqueConstraint("model_id", "version"), UniqueConstraint("revision_id", "label"))

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(63))
    version: Mapped[int]
    method: Mapped[str] = mapped_column(String(32))
    options: Mapped[Json]
    state: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str | None] = mapped_column(String(16))
    reasons: Mapped[list[str]] = mapped_column(default=list)
    overridden_at: Mapped[datetime | None]
    batchable: Mapped[bool | None]
    padding: Mapped[Json | None] = mapped_column(_OPTIONAL_JSON)
    unloaded_at: Mapped[datetime | None]
    engine: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64), index=True)
    data_digest: Mapped[str | None] = mapped_column(String(64), index=True)
    data_name: Mapped[str | None] = mapped_column(String(63))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now)

    revision: Mapped[Revision] = relationship(back_populates="variants")
    evaluation: Mapped["Evaluation | None"] = relationship(
        back_populates="variant", cascade="all, delete-orphan", passive_deletes=True
    )


class Evaluation(Base):
    """What was measured of one variant. NULL is what was not measured."""

    __tablename__ = "evaluations"

    id: Mapped[int] = mapped_column(primary_key=True)
    variant_id: Mapped[int] = mapped_column(ForeignKey("variants.id", ondelete="CASCADE"), unique=True)
    dataset: Mapped[str | None] = mapped_column(String(63))
    samples: Mapped[int]
    accuracy: Mapped[float | None]
    accuracy_ratio: Mapped[float | None]
    agreement: Mapped[float | None]
    cosine: Mapped[float | None]
    sqnr_db: Mapped[float | None]
    latency_p50_ms: Mapped[float | None]
    latency_p95_ms: Mapped[float | None]
    latency_p99_ms: Mapped[float | None]
    speedup: Mapped[float | None]
    speedup_low: Mapped[float | None]
    speedup_high: Mapped[float | None]
    metrics: Mapped[list[Json]] = mapped_column(default=list)
    report: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)

    variant: Mapped[Variant] = relationship(back_populates="evaluation")
    layers: Mapped[list["LayerEvaluation"]] = relationship(
        order_by="LayerEvaluation.position", cascade="all, delete-orphan", passive_deletes=True
    )


class LayerEvaluation(Base):
    """How far one tensor of the variant is from the same tensor of the original."""

    __tablename__ = "layer_evaluations"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    operator: Mapped[str] = mapped_column(String(64))
    sqnr_db: Mapped[float | None]


class Job(Base):
    """One quantization. The row is the truth; messages of the broker only wake a worker to look at it.

    `detail` is what the method tells of its progress. `checkpoint_digest` names the blob that a next attempt would go
    on from; of a job that has ended, it keeps that blob no longer.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state_created_at", "state", "created_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id", ondelete="CASCADE"))
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    dataset_name: Mapped[str | None] = mapped_column(String(63))
    variant_id: Mapped[int | None] = mapped_column(ForeignKey("variants.id", ondelete="SET NULL"))
    label: Mapped[str] = mapped_column(String(63))
    method: Mapped[str] = mapped_column(String(32))
    options: Mapped[Json]
    state: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str] = mapped_column(String(32))
    progress: Mapped[float] = mapped_column(default=0.0)
    detail: Mapped[Json | None] = mapped_column(_OPTIONAL_JSON)
    checkpoint_digest: Mapped[str | None] = mapped_column(String(64), index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_renewed_at: Mapped[datetime | None]
    woken_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    model: Mapped[Model] = relationship()
    revision: Mapped[Revision] = relationship()
    variant: Mapped[Variant | None] = relationship()
    dataset: Mapped[Dataset | None] = relationship()


class JobEvent(Base):
    """A change of a job, in the order it happened; its id is what clients resume from."""

    __tablename__ = "job_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str] = mapped_column(String(32))
    progress: Mapped[float]
    detail: Mapped[Json | None] = mapped_column(_OPTIONAL_JSON)
    attempts: Mapped[int]
    error: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(default=now)


class JobFailure(Base):
    """A failed attempt at a job. `traceback` is NULL where the job's process could not say where it was."""

    __tablename__ = "job_failures"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(default=now)
    error: Mapped[str] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)
    log: Mapped[str] = mapped_column(Text)


class Point(Base):
    """One of the trade-offs that a search found: which nodes stay in FP32, and what that was measured to give.

    `variant` is the label of the search's own variant, `number` counts the points of one search from 1, and `chosen`
    is the one that the variant was made of. `options` are the search's. NULL is what was not measured.
    """

    __tablename__ = "points"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    variant: Mapped[str] = mapped_column(String(63))
    number: Mapped[int]
    chosen: Mapped[bool]
    dataset: Mapped[str | None] = mapped_column(String(63))
    options: Mapped[Json]
    kept: Mapped[list[str]]
    accuracy: Mapped[float | None]
    agreement: Mapped[float | None]
    sqnr_db: Mapped[float | None]
    latency_ms: Mapped[float | None]
    speedup: Mapped[float | None]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now)

    revision: Mapped[Revision] = relationship()


#: The states in which an experiment has a say in what its model answers, or may have it again at once.
_LIVE_EXPERIMENT = text("state IN ('running', 'paused')")


class Experiment(Base):
    """A comparison of variants of one revision, on live traffic.

    `arms` are {variant, version, weight, control, stopped}, `shadow` {variant, version, sample}; `unit` says where
    requests name their unit. `step` counts the steps of `ramp` that `coverage` has reached, since `step_at`. `etag`
    grows with each change. `closed_at`: since when it takes no outcomes; what was reported is then kept as sums.
    """

    __tablename__ = "experiments"
    __table_args__ = (
        Index(
            "uq_experiments_live_model_id",
            "model_id",
            unique=True,
            sqlite_where=_LIVE_EXPERIMENT,
            postgresql_where=_LIVE_EXPERIMENT,
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(63))
    seed: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))
    unit: Mapped[Json]
    arms: Mapped[list[Json]]
    coverage: Mapped[float]
    shadow: Mapped[list[Json]]
    ramp: Mapped[Json | None] = mapped_column(_OPTIONAL_JSON)
    guardrails: Mapped[list[Json]]
    alpha: Mapped[float]
    auto_rollback: Mapped[bool]
    step: Mapped[int] = mapped_column(default=0)
    step_at: Mapped[datetime | None]
    etag: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]

    model: Mapped[Model] = relationship()
    revision: Mapped[Revision] = relationship()


class ExperimentEvent(Base):
    """What happened to an experiment; its id is what clients resume from.

    `key` and `fingerprint` are of the request that asked for it, where that named an idempotency key.
    """

    __tablename__ = "experiment_events"
    __table_args__ = (UniqueConstraint("experiment_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    detail: Mapped[Json]
    key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(default=now)


class ExperimentCounts(Base):
    """What one process has counted of an experiment so far, as `app.experiments.counts` writes it."""

    __tablename__ = "experiment_counts"

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    process: Mapped[str] = mapped_column(String(255), primary_key=True)
    counts: Mapped[Json]
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Exposure(Base):
    """Which arm answered a request, for outcomes that name it. `bucket` and `key` are the unit's."""

    __tablename__ = "exposures"
    __table_args__ = (Index("ix_exposures_experiment_id_at", "experiment_id", "at"),)

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(255), primary_key=True, index=True)
    variant: Mapped[str] = mapped_column(String(63))
    bucket: Mapped[int]
    key: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(default=now)


class PairedAnswer(Base):
    """The top-1 of the control and of a shadow for one request, for a label that names it."""

    __tablename__ = "paired_answers"
    __table_args__ = (Index("ix_paired_answers_experiment_id_at", "experiment_id", "at"),)

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(255), primary_key=True, index=True)
    variant: Mapped[str] = mapped_column(String(63), primary_key=True)
    control_class: Mapped[int] = mapped_column(BigInteger)
    variant_class: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(default=now)


class Outcome(Base):
    """What a client reported. `reference` is "unit:" or "request:" and what the client calls it."""

    __tablename__ = "outcomes"

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    reference: Mapped[str] = mapped_column(String(255), primary_key=True)
    metric: Mapped[str] = mapped_column(String(63), primary_key=True)
    value: Mapped[float]
    at: Mapped[datetime] = mapped_column(default=now)


class IdempotencyKey(Base):
    """The answer to a request that named a key: the same key gets the same job, and never a second one."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Calibration(Base):
    """What calibrating a model on a dataset found out, as the worker's own file. `key` says with which settings."""

    __tablename__ = "calibrations"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_digest: Mapped[str] = mapped_column(String(64), index=True)
    dataset_digest: Mapped[str] = mapped_column(String(64), index=True)
    statistics: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Worker(Base):
    """A worker process, and when it was last heard of."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    concurrency: Mapped[int]
    running: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)


class ApiKey(Base):
    """What lets a client in. Of the secret, a salted hash alone is kept; a revoked key stays, so that the audit log has
    whom to name.

    `models`: a pattern of the models that it is for; NULL: all. `rate` and `burst`: requests a second, and at once.
    `uploaded_bytes` are those of `upload_day`, a date in UTC.
    """

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    scope: Mapped[str] = mapped_column(String(8))
    models: Mapped[str | None] = mapped_column(String(255))
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    rate: Mapped[float | None]
    burst: Mapped[int | None]
    upload_quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    upload_day: Mapped[str | None] = mapped_column(String(10))
    uploaded_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class BrowserSession(Base):
    """A browser that showed a key; `digest` is the hash of its cookie."""

    __tablename__ = "browser_sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]


class AuditEntry(Base):
    """Who did what, and when. `by`: the name of a key, or `local`, `cli`, `worker`, `guardrail`, `ramp`, `octet`."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_at", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    by: Mapped[str] = mapped_column(String(63))
    key_id: Mapped[str | None] = mapped_column(String(12))
    verb: Mapped[str] = mapped_column(String(32))
    noun: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(255))
    request_id: Mapped[str | None] = mapped_column(String(128))
    outcome: Mapped[str] = mapped_column(String(16))
