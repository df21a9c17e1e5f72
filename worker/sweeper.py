"""What keeps jobs from being forgotten: those of silent workers are taken back, and no job needs the broker."""

import logging
import shutil
from collections.abc import Callable

from app.blobs import BlobStore
from app.intake.deposit import discard
from app.intake.leftovers import orphaned_job_folders, unnamed_blobs
from app.periodic import Periodic
from app.registry import Database, jobs, workers
from app.registry.jobs import Heartbeat, Waiting
from app.registry.references import referenced
from app.scratch import job_folder
from app.settings import Settings
from worker.failed_jobs import FailedJobs
from worker.lasting import Lasting
from worker.runner import Runner

#: A job that waited for so long since its message was sent is started without one, where a slot is idle: the message
#: may be lost, or lie with a worker that is busy, or the broker is away.
_LOST_AFTER_SECONDS = 5.0
#: All blobs are looked at for that.
_TIDY_EVERY_SECONDS = 3600.0
#: Blobs without a row that are removed even when the registry names fewer.
_MOST_LEFT_BLOBS = 4

_log = logging.getLogger(__name__)


class Sweeper:
    """A thread beside the pool of a worker; several workers may sweep at once."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: BlobStore,
        runner: Runner,
        *,
        start: Callable[[str], object],
    ) -> None:
        """`start`: have the runner do a job, and return at once."""
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._runner = runner
        self._start = start
        self._failed_jobs = FailedJobs(settings.home.absolute(), settings.keep_failed_jobs)
        self._name = workers.name_here(settings.home)
        self._silent = Lasting[Heartbeat](settings.job_lease_seconds)
        self._unheard = Lasting[Waiting](_LOST_AFTER_SECONDS)
        self._periodic = Periodic("sweep", settings.sweep_seconds, self.sweep)
        self._tidying = Periodic("tidying", _TIDY_EVERY_SECONDS, self.tidy)

    def start(self) -> None:
        self._periodic.start()
        self._tidying.start()

    def wake(self) -> None:
        """Sweep soon: a slot is free."""
        self._periodic.wake()

    def stop(self) -> None:
        self._tidying.stop()
        self._periodic.stop()
        with self._database.writing() as session:
            workers.leave(session, self._name)

    def sweep(self) -> None:
        """Once: say that this worker lives, take jobs from silent ones, start what no message came for, tidy up."""
        with self._database.writing() as session:
            workers.beat(
                session,
                self._name,
                concurrency=self._settings.worker_concurrency,
                running=self._runner.running,
                forget_after_seconds=24 * 3600,
            )
            silent = self._silent.among(jobs.heartbeats(session))
            expired = jobs.expire(session, silent, max_attempts=self._settings.job_max_attempts) if silent else []
            failed = [
                each for each in silent if each.job_id in expired and jobs.state_of(session, each.job_id) == "failed"
            ]
            unheard = [each.job_id for each in self._unheard.among(jobs.waiting(session))]
        for job_id in expired:
            _log.warning("job %s: its lease ran out; its worker is gone or cut off", job_id)
        for job_id in unheard[: self._runner.idle]:
            self._start(job_id)
        for heartbeat in failed:
            folder = job_folder(self._settings.scratch_folder, heartbeat.token or "")
            self._failed_jobs.keep(folder, heartbeat.job_id)
        for folder in orphaned_job_folders(self._database, self._settings.scratch_folder):
            shutil.rmtree(folder, ignore_errors=True)
        self._runner.discard_checkpoints()

    def tidy(self) -> None:
        """Remove what nothing names: blobs of processes that were killed before they could, folders of deleted jobs."""
        self._remove_unnamed_blobs()
        kept = self._failed_jobs.job_ids()
        with self._database.reading() as session:
            known = jobs.known(session, kept)
        self._failed_jobs.remove(set(kept) - known)
        self._failed_jobs.trim()

    def _remove_unnamed_blobs(self) -> None:
        unnamed = unnamed_blobs(self._database, self._blobs)
        with self._database.reading() as session:
            named = len(referenced(session))
        # A killed process leaves a few blobs. When most of a store has no row, the store is another registry's.
        if len(unnamed) > max(named, _MOST_LEFT_BLOBS):
            _log.warning(
                "%d blobs of the store have no row in this registry, which names %d: if OCTET_BLOBS is another"
                " service's store, choose a store for this one; else `octet gc` removes them",
                len(unnamed),
                named,
            )
            return
        discard(self._database, self._blobs, unnamed)
