"""What keeps jobs from being forgotten: expired leases are taken back, and lost messages sent again."""

import logging
import shutil
from collections.abc import Callable

from app.intake.leftovers import orphaned_job_folders
from app.periodic import Periodic
from app.registry import Database, jobs, workers
from app.settings import Settings
from worker.runner import Runner

#: A message that no worker took in so long, while one is idle, is taken for lost.
_LOST_AFTER_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Sweeper:
    """A thread beside the pool of a worker; several workers may sweep at once."""

    def __init__(
        self, settings: Settings, database: Database, runner: Runner, *, wake: Callable[[str], object]
    ) -> None:
        self._settings = settings
        self._database = database
        self._runner = runner
        self._wake = wake
        self._name = workers.name_here(settings.home)
        self._periodic = Periodic("sweep", settings.sweep_seconds, self.sweep)

    def start(self) -> None:
        self._periodic.start()

    def stop(self) -> None:
        self._periodic.stop()
        with self._database.writing() as session:
            workers.leave(session, self._name)

    def sweep(self) -> None:
        """Once: say that this worker lives, take expired leases back, wake idle slots for waiting jobs, and tidy up."""
        idle = self._settings.worker_concurrency - self._runner.running
        with self._database.writing() as session:
            workers.beat(
                session,
                self._name,
                concurrency=self._settings.worker_concurrency,
                running=self._runner.running,
                forget_after_seconds=24 * 3600,
            )
            expired = jobs.expire(session, max_attempts=self._settings.job_max_attempts)
            waiting = jobs.waiting(session, longer_than_seconds=_LOST_AFTER_SECONDS, limit=idle) if idle > 0 else []
        for job_id in expired:
            _log.warning("job %s: its lease ran out; its worker is gone or cut off", job_id)
        for job_id in waiting:
            self._wake(job_id)
            with self._database.writing() as session:
                jobs.announced(session, [job_id])
        for folder in orphaned_job_folders(self._database, self._settings.scratch_folder):
            shutil.rmtree(folder, ignore_errors=True)
        self._runner.discard_checkpoints()
