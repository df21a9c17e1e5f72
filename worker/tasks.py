"""The queue's face: one task, and the worker's beginning and end."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

from app import custom_operators
from app.blobs import open_store
from app.confinement import confinement
from app.errors import Invalid, Unavailable
from app.registry import Database, migrations
from worker.celery_app import WakeUp, app, settings
from worker.runner import Runner
from worker.sweeper import Sweeper

_log = logging.getLogger(__name__)

_database = Database(settings.registry_url)
_blobs = open_store(settings)
_runner = Runner(settings, _database, _blobs)


@app.task(name="octet.run_job", base=WakeUp)  # type: ignore[untyped-decorator]
def run_job(job_id: str) -> None:
    """Do the job, unless another worker has it."""
    _runner.run(job_id)
    _sweeper.wake()


#: For jobs that no message came for.
_threads = ThreadPoolExecutor(settings.worker_concurrency, "octet-job")
_sweeper = Sweeper(settings, _database, _blobs, _runner, start=lambda job_id: _threads.submit(run_job, job_id))


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log_plainly(**_: Any) -> None:
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("celery", "kombu", "amqp", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@worker_init.connect  # type: ignore[untyped-decorator]
def _check(**_: Any) -> None:
    try:
        custom_operators.allow(custom_operators.listed(settings.custom_operators))
        migrations.check_current(_database)
    except (Invalid, Unavailable) as error:
        # Celery logs what its signals raise and goes on; an exit it lets pass.
        raise SystemExit(f"worker: {error.detail}") from error


@worker_ready.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    found = confinement()
    _log.log(logging.INFO if found.is_complete else logging.WARNING, "%s", found)
    _sweeper.start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _give_jobs_back(**_: Any) -> None:
    _runner.stop()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    _sweeper.stop()
    _threads.shutdown()
    _database.close()
