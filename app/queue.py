"""The sending side of the broker: it wakes workers for jobs that the registry holds.

A message carries a job's id and nothing else, and losing one loses nothing: the registry knows which jobs were not
announced yet, and idle workers look for those whose message went astray.
"""

from celery import Celery
from kombu.exceptions import OperationalError

from app.errors import Unavailable
from app.periodic import Periodic
from app.registry import Database, jobs
from app.registry.database import NOTHING
from app.settings import Settings

RUN_JOB = "octet.run_job"


class Outbox:
    """Announces queued jobs to the broker, from a thread of its own, so that no request waits for the broker."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._celery = Celery("octet")
        self._celery.conf.update(settings.celery)
        self._periodic = Periodic("outbox", settings.sweep_seconds, self._send_all)

    def start(self) -> None:
        self._periodic.start()

    def stop(self) -> None:
        """What is not sent yet stays in the registry, for the next start."""
        self._periodic.stop()
        self._celery.close()

    def announce(self) -> None:
        """To be called after a transaction that queued jobs; returns at once."""
        self._periodic.wake()

    def _send_all(self) -> None:
        with self._database.reading() as session:
            job_ids = jobs.unannounced(session)
        for job_id in job_ids:
            self._celery.send_task(RUN_JOB, args=[job_id], retry=False)
            # Sent first, noted after: a crash between the two sends twice, which a worker's claim makes harmless.
            with self._database.writing(changes=NOTHING) as session:
                jobs.announced(session, [job_id])


def check_broker(settings: Settings) -> None:
    """Raises `Unavailable` when no message could be sent now."""
    celery = Celery("octet")
    celery.conf.update(settings.celery)
    try:
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (OperationalError, OSError) as error:
        raise Unavailable(f"the broker does not answer: {error}") from error
    finally:
        celery.close()
