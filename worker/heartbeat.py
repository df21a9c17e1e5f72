"""The heartbeat of a running job: it renews the job's lease, and tells the registry the job's progress."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.periodic import Periodic
from app.registry import Database, OperationalError, jobs
from app.registry.jobs import Lease

_log = logging.getLogger(__name__)


class LeaseHeartbeat:
    """Renews one lease every `seconds`."""

    def __init__(self, database: Database, lease: Lease, seconds: float) -> None:
        self._database = database
        self._lease = lease
        self._seconds = seconds
        self._beat_at = 0.0
        self._progress: dict[str, Any] = {}
        self.stage = "starting"

    def beat(self, progress: dict[str, Any] | None) -> bool:
        """Renew the lease when it is time or a new stage begins; return whether the client has cancelled the job.

        Args:
            progress: The latest progress message of the job's process, if there is a new one.

        Raises:
            LeaseLost: Another worker may have the job.
        """
        is_new_stage = False
        if progress is not None:
            self._progress = progress
            is_new_stage, self.stage = progress["stage"] != self.stage, progress["stage"]
        if not is_new_stage and time.monotonic() - self._beat_at < self._seconds:
            return False
        try:
            return self._renew()
        except OperationalError as error:
            # The lease outlives a short absence of the database; a long one ends in `LeaseLost`.
            _log.warning("heartbeat missed: %s", error)
            return False
        finally:
            self._beat_at = time.monotonic()

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Renew the lease in a thread while the block takes its time."""
        thread = Periodic(f"heartbeat of job {self._lease.job_id}", self._seconds, self._renew)
        thread.start()
        try:
            yield
        finally:
            thread.stop()

    def _renew(self) -> bool:
        with self._database.writing() as session:
            is_cancelled = jobs.renew(
                session,
                self._lease,
                stage=self._progress.get("stage"),
                progress=self._progress.get("progress", 0.0),
                detail=self._progress.get("detail"),
            )
        self._progress = {}
        return is_cancelled
