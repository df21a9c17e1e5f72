"""The process that does a job's work, as a test gets hold of it."""

import time
from contextlib import suppress

import psutil

from tests.e2e.service import Service, eventually

CHILD = "worker.job_process"


def child_of(service: Service) -> psutil.Process:
    """Of the job that the one worker, with its one slot, is at."""
    return eventually(lambda: service.processes["worker"].find(CHILD), what="a job's process")


def run_for(child: psutil.Process, seconds: float) -> None:
    """Let a suspended process run for so long; nothing, where it has ended."""
    with suppress(psutil.NoSuchProcess):
        child.resume()
        time.sleep(seconds)
        child.suspend()
