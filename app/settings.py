"""What can be configured, and its defaults; the only reader of the environment."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


class Settings(BaseSettings):
    """Read from `OCTET_*` environment variables; every default serves on one machine without a server."""

    model_config = SettingsConfigDict(env_prefix="OCTET_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".octet"), description="Folder under which everything local lies.")
    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that the gateway listens on.")
    grpc_port: int = Field(default=8001, ge=0, le=65535, description="Port for inference over gRPC; 0 means none.")
    server_name: str = Field(default="octet", description="The name in the answer of GET /v2.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = Field(default="text", description="Logs for people, or for machines.")
    log_requests: bool = Field(default=False, description="Log a line for each request.")
    tracing: bool = Field(
        default=False, description="Send traces to OpenTelemetry, as OTEL_* variables say; takes the extra otel."
    )

    insecure: bool = Field(
        default=False, description="Answer beyond this machine though no key was ever made: whoever asks may do all."
    )
    allowed_hosts: str = Field(
        default="",
        description="Names beside localhost that the service is reached under while it has no keys; by commas.",
    )
    cors_origins: str = Field(
        default="", description="Origins whose pages may call the service, such as https://app.example; by commas."
    )
    open_metrics: bool = Field(default=False, description="Answer /metrics without a key.")
    secure_cookies: bool = Field(
        default=False, description="Sign browsers in over HTTPS only: for a service behind a proxy that speaks it."
    )
    audit_days: int = Field(default=365, ge=0, description="Days that the audit log is kept; 0 means for ever.")

    gateway_workers: int = Field(default=1, ge=1, description="Processes that serve the gateway's port together.")
    siblings_folder: Path | None = Field(
        default=None, description="Where such processes find each other; set by the command that starts them."
    )
    drain_seconds: float = Field(
        default=1, ge=0, le=25, description="How long the gateway, told to end, says so and serves on."
    )

    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the registry; SQLite under `home` when absent."
    )
    blobs: str | None = Field(
        default=None,
        description="URL of the store of models, datasets and variants, such as file:///srv/octet/blobs; a folder under"
        " `home` when absent.",
    )
    broker_url: str | None = Field(
        default=None, description="Celery broker, such as redis://…; folders under `home` when absent."
    )

    max_upload_bytes: int = Field(default=8 * GIB, gt=0, description="Largest body of an upload.")
    max_unpacked_bytes: int = Field(
        default=16 * GIB, gt=0, description="Largest size that an archive or dataset may unpack to."
    )
    max_inference_bytes: int = Field(default=256 * 1024**2, gt=0, description="Largest body of an inference request.")
    inference_body_seconds: float = Field(
        default=120, gt=0, description="Longest time that the body of an inference request may take to come."
    )
    custom_operators: str = Field(
        default="",
        description="Domains of operators beyond ONNX's that models may have, each with the library for onnxruntime"
        " that runs them, such as com.example=/opt/operators.so; by commas. That code is trusted.",
    )
    engine: str = Field(
        default="onnxruntime",
        description="Engine that checks, serves and quantizes what is uploaded from now on.",
    )
    inspection_seconds: float = Field(default=120, gt=0, description="Limit for checking one upload.")

    inference_threads: int = Field(default=0, ge=0, description="Requests computed at once; 0 means one a core.")
    intra_op_threads: int = Field(
        default=1, ge=0, description="Cores that one inference uses; 0 lets the engine use all."
    )
    model_memory: int = Field(
        default=0, ge=0, description="Bytes that loaded models may take together; 0 means half of the machine's memory."
    )
    isolate: bool = Field(
        default=False, description="Serve each variant from a confined process of its own, so that none breaks others."
    )
    run_seconds: float = Field(
        default=120,
        gt=0,
        description="Longest run of an isolated variant; then its process is ended.",
    )
    pinned: str = Field(
        default="", description="Models, or model@variant, loaded at start and never evicted; separated by commas."
    )
    max_batch_rows: int = Field(
        default=32, ge=1, description="Rows that requests are joined up to; 1 computes each request alone."
    )
    max_batch_delay_us: int = Field(
        default=0, ge=0, description="Microseconds that a request may wait for others to be joined with."
    )
    max_waiting_rows: int = Field(
        default=4096, ge=1, description="Rows that may wait for one variant before requests are refused."
    )

    outcome_hours: float = Field(
        default=72, gt=0, description="How long after a request of an experiment its outcomes may come."
    )
    outcome_days: float = Field(
        default=30, gt=0, description="How long after an experiment its outcomes may come; then sums are kept of them."
    )

    worker_concurrency: int = Field(default=1, ge=1, description="Jobs that one worker runs at once.")
    job_max_attempts: int = Field(default=3, ge=1, description="Tries of a job whose worker vanished.")
    job_lease_seconds: float = Field(
        default=30, gt=0, description="A running job unheard of for so long is taken from its worker."
    )
    job_timeout_seconds: float = Field(default=6 * 3600, gt=0, description="Longest run of one job.")
    job_memory_bytes: int = Field(
        default=0, ge=0, description="Address space of one job's process; 0 means as much as the machine has memory."
    )
    keep_failed_jobs: int = Field(
        default=0,
        ge=0,
        description="Folders of failed jobs that are kept under `home`, the newest; each takes the disk space of its"
        " model, its dataset and what the job had written.",
    )
    sweep_seconds: float = Field(
        default=2, gt=0, description="How often lost wake-ups and silent workers are looked for."
    )

    @cached_property
    def registry_url(self) -> str:
        """The database URL in force; PostgreSQL always through psycopg 3."""
        if self.database_url is None:
            return f"sqlite:///{self.home.absolute() / 'registry.sqlite3'}"
        scheme, separator, rest = self.database_url.partition("://")
        driver = "postgresql+psycopg" if scheme in {"postgres", "postgresql"} else scheme
        return driver + separator + rest

    @property
    def hosts(self) -> frozenset[str]:
        return _listed(self.allowed_hosts)

    @property
    def origins(self) -> frozenset[str]:
        return _listed(self.cors_origins)

    @property
    def blob_url(self) -> str:
        """The URL of the blob store in force."""
        return self.blobs or (self.home.absolute() / "blobs").as_uri()

    @property
    def scratch_folder(self) -> Path:
        """Where uploads and jobs keep what is not yet, or never, part of the registry."""
        return self.home.absolute() / "scratch"

    @property
    def mapped_folder(self) -> Path:
        """Where served variants lie in the form in which the engine maps them into memory; made anew when missing."""
        return self.home.absolute() / "mapped"

    @property
    def _queue_folder(self) -> Path:
        return self.home.absolute() / "queue"

    @property
    def celery(self) -> dict[str, Any]:
        """Celery's configuration, the same for the gateway that sends and the worker that receives."""
        common: dict[str, Any] = {
            "task_serializer": "json",
            "accept_content": ["json"],
            "task_ignore_result": True,
            "task_default_queue": "octet",
            "worker_concurrency": self.worker_concurrency,
            "worker_prefetch_multiplier": 1,
            "worker_enable_remote_control": False,
            "worker_send_task_events": False,
            "worker_hijack_root_logger": False,
            "broker_connection_retry_on_startup": True,
        }
        if self.broker_url is not None:
            # A broker that is away must not hold up the request that submitted a job: the sweep sends again.
            return common | {
                "broker_url": self.broker_url,
                "broker_transport_options": {"socket_connect_timeout": 2, "socket_timeout": 5},
                "broker_connection_max_retries": None,
            }
        return common | {
            "broker_transport": "app.file_queue:Transport",
            "broker_url": "files://localhost",
            "broker_transport_options": {
                "folder": str(self._queue_folder),
                "scratch": str(self.scratch_folder),
                "polling_interval": 0.1,
            },
        }

    def make_folders(self) -> None:
        """Create `home` and what lies under it."""
        for folder in (self.scratch_folder, self.mapped_folder):
            folder.mkdir(parents=True, exist_ok=True)
        if self.broker_url is None:
            self._queue_folder.mkdir(exist_ok=True)


def _listed(text: str) -> frozenset[str]:
    return frozenset(word.strip().rstrip("/").lower() for word in text.split(",") if word.strip())
