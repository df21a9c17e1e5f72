"""The sending side of the broker: it wakes workers for jobs that the registry holds.

A message carries a job's id and nothing else, and losing one loses nothing: the registry knows which jobs were not
announced yet, and idle workers look for those whose message went astray.
"""

from typing import TYPE_CHECKING

from app.errors import Unavailable
from app.periodic import Periodic
from app.registry import Database, jobs
from app.registry.database import NOTHING
from app.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

RUN_JOB = "octet.run_job"


class Outbox:
    """Announces queued jobs to the broker, from a thread of its own, so that no request waits for the broker."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._settings = settings
        self._celery: Celery | None = None
        self._periodic = Periodic("outbox", settings.sweep_seconds, self._send_all)

    def start(self) -> None:
        self._periodic.start()

    def stop(self) -> None:
        """What is not sent yet stays in the registry, for the next start."""
        self._periodic.stop()
        if self._celery is not None:
            self._celery.close()

    def announce(self) -> None:
        """To be called after a transaction that queued jobs; returns at once."""
        self._periodic.wake()

    def _send_all(self) -> None:
        with self._database.reading() as session:
            job_ids = jobs.unannounced(session)
        for job_id in job_ids:
            self._sender().send_task(RUN_JOB, args=[job_id], retry=False)
            # Sent first, noted after: a crash between the two sends twice, which a worker's claim makes harmless.
            with self._database.writing(changes=NOTHING) as session:
                jobs.announced(session, [job_id])

    def _sender(self) -> "Celery":
        """Import Celery for the first job that is announced: a start does without it."""
        if self._celery is None:
            self._celery = _celery(self._settings)
        return self._celery


def _celery(settings: Settings) -> "Celery":
    from celery import Celery

    celery = Celery("octet")
    celery.conf.update(settings.celery)
    return celery


def check_broker(settings: Settings) -> None:
    """Raises `Unavailable` when no message could be sent now."""
    from kombu.exceptions import OperationalError

    celery = _celery(settings)
    try:
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (OperationalError, OSError) as error:
        raise Unavailable(f"the broker does not answer: {error}") from error
    finally:
        celery.close()
