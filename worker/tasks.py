"""The queue's face: one task, and the worker's beginning and end."""

import logging
from functools import cache
from typing import Any

from celery.signals import celeryd_init, setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

from app import logs
from app.errors import OctetError
from app.settings import Settings
from worker.celery_app import WakeUp, app
from worker.service import WorkerService

_log = logging.getLogger(__name__)


@cache
def _service() -> WorkerService:
    return WorkerService(Settings())


@app.task(name="octet.run_job", base=WakeUp)  # type: ignore[untyped-decorator]
def run_job(job_id: str) -> None:
    """Do the job, unless another worker has it."""
    _service().run(job_id)


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _configure_logs(**_: Any) -> None:
    """First of all: Celery warns while it starts."""
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format, "job_id")


@setup_logging.connect  # type: ignore[untyped-decorator]
def _leave_logs_alone(**_: Any) -> None:
    """Celery configures no logs where this signal has a receiver."""


@worker_init.connect  # type: ignore[untyped-decorator]
def _check(**_: Any) -> None:
    try:
        _service().check()
    except Exception as error:
        _log.critical("the worker cannot start: %s", error, exc_info=not isinstance(error, OctetError))
        # Celery logs what its signals raise and goes on; an exit it lets pass.
        raise SystemExit(1) from error


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    _service().start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _give_jobs_back(**_: Any) -> None:
    _service().give_jobs_back()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    _service().stop()
