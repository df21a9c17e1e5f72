"""What `octet worker` writes to standard error, as the process that it really is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.registry import Database, jobs
from app.settings import Settings
from tests.worker.runs import submitted
from tests.worker.test_failures import broken

pytestmark = pytest.mark.e2e

SECRET = "hunter2"


def environment(home: Path, **variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OCTET_")}
    return inherited | {"OCTET_HOME": str(home), "OCTET_SWEEP_SECONDS": "0.2"} | variables


@contextmanager
def worker(log: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "app.cli", "worker"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=variables)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def ended(database: Database, job_id: str) -> str:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        with database.reading() as session:
            state = jobs.state_of(session, job_id)
        if state in jobs.FINAL:
            return state
        time.sleep(0.2)
    raise AssertionError("the job does not end")


@pytest.mark.parametrize("form", ["text", "json"])
def test_worker_and_job_log_in_one_form_that_names_the_job_and_no_secret(
    settings: Settings, database: Database, tmp_path: Path, form: str
) -> None:
    job_id = broken(settings, database)
    with database.writing() as session:
        # The error of a method names it: what a library puts into an error is no different.
        jobs.find(session, job_id).options = {"seed": f"redis://:{SECRET}@b/0"}
    log = tmp_path / "log"
    with worker(log, environment(settings.home, OCTET_LOG_FORMAT=form)):
        assert ended(database, job_id) == "failed"
    text = log.read_text()
    assert SECRET not in text
    assert "redis://:***@b/0" in text
    with database.reading() as session:
        assert SECRET not in (jobs.find(session, job_id).error or "")
    if form == "text":
        assert f"INFO worker.runner [{job_id}] attempt 1" in text
        assert f"ERROR worker.job_process [{job_id}] internal error" in text
        return
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"worker.runner", "worker.job_process"} <= {line["logger"] for line in lines if line["job_id"] == job_id}
    assert all({"time", "level", "logger", "message", "job_id"} <= line.keys() for line in lines)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_worker_that_cannot_start_says_so_in_its_form_and_without_secrets(tmp_path: Path, form: str) -> None:
    url = f"postgresql://octet:{SECRET}@127.0.0.1:1/octet"
    log = tmp_path / "log"
    with worker(log, environment(tmp_path / "home", OCTET_DATABASE_URL=url, OCTET_LOG_FORMAT=form)) as process:
        assert process.wait(timeout=120) == 1
    text = log.read_text()
    assert SECRET not in text
    assert "the worker cannot start" in text
    if form == "json":
        assert all(json.loads(line)["level"] for line in text.splitlines())


def test_importing_the_worker_reads_no_settings_and_makes_no_folder(tmp_path: Path) -> None:
    program = "import worker.celery_app, worker.tasks"
    variables = environment(tmp_path / "home", OCTET_PORT="no number")
    subprocess.run([sys.executable, "-c", program], env=variables, cwd=tmp_path, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []


def test_a_job_succeeds_in_a_real_worker(settings: Settings, database: Database, tmp_path: Path) -> None:
    job_id = submitted(settings, database)
    with worker(tmp_path / "log", environment(settings.home, OCTET_LOG_LEVEL="warning")):
        assert ended(database, job_id) == "succeeded", (tmp_path / "log").read_text()
    assert "attempt 1" not in (tmp_path / "log").read_text()
