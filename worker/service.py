"""All that one worker process consists of besides Celery: the registry, the blobs, the runner and the sweeper."""

import logging
from concurrent.futures import ThreadPoolExecutor

from app import custom_operators
from app.blobs import open_store
from app.confinement import confinement
from app.registry import Database, migrations
from app.settings import Settings
from worker.runner import Runner
from worker.sweeper import Sweeper

_log = logging.getLogger(__name__)


class WorkerService:
    """Does jobs that messages name and, where the sweeper finds them, those that no message came for."""

    def __init__(self, settings: Settings) -> None:
        settings.make_folders()
        self._settings = settings
        self._database = Database(settings.registry_url)
        blobs = open_store(settings)
        self._runner = Runner(settings, self._database, blobs)
        self._threads = ThreadPoolExecutor(settings.worker_concurrency, "octet-job")
        self._sweeper = Sweeper(settings, self._database, blobs, self._runner, start=self._run_in_thread)

    def check(self) -> None:
        """Raises `Invalid` for settings, or `Unavailable` for a registry, that this worker cannot work with."""
        custom_operators.allow(custom_operators.listed(self._settings.custom_operators))
        migrations.check_current(self._database)

    def start(self) -> None:
        found = confinement()
        _log.log(logging.INFO if found.is_complete else logging.WARNING, "%s", found)
        self._sweeper.start()

    def run(self, job_id: str) -> None:
        """Do the job, unless another worker has it."""
        self._runner.run(job_id)
        self._sweeper.wake()

    def give_jobs_back(self) -> None:
        """Have every running job given back, and take no new one."""
        self._runner.stop()

    def stop(self) -> None:
        """Return once all jobs have ended."""
        self._sweeper.stop()
        self._threads.shutdown()
        self._database.close()

    def _run_in_thread(self, job_id: str) -> None:
        self._threads.submit(self._run_logged, job_id)

    def _run_logged(self, job_id: str) -> None:
        try:
            self.run(job_id)
        except Exception:  # noqa: BLE001 - nobody asks the thread for its result
            _log.exception("job %s: left to its lease", job_id)
