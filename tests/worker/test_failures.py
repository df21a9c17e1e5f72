"""Jobs that fail in the process that they really run in, and what an administrator finds out about them."""

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from app.blobs import open_store
from app.registry import Database, failures, jobs
from app.registry.tables import Job, JobFailure
from app.settings import Settings
from tests.worker import models
from tests.worker.runs import submitted, with_dataset
from tests.worker.test_pipeline import _images, _lay_out
from worker.child import Child
from worker.job_log import JobLog
from worker.runner import Runner

pytestmark = pytest.mark.e2e

GIB = 1024**3
CODE = Path(__file__).parents[2]


def run(settings: Settings, database: Database, job_id: str) -> tuple[Job, JobFailure]:
    """Have the job done; returns it as it ended, and its one failure."""
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        job = jobs.find(session, job_id)
        assert job.state == "failed"
        rows = failures.of_job(session, job_id)
        assert rows is not None
        (failure,) = rows
        return job, failure


def broken(settings: Settings, database: Database) -> str:
    """A job that fails with a defect: its options lack what every method has."""
    job_id = submitted(settings, database, "dynamic", dataset=with_dataset(settings, database))
    with database.writing() as session:
        jobs.find(session, job_id).options = {}
        jobs.find(session, job_id).dataset_id = None
    return job_id


def test_a_defect_is_kept_with_its_traceback_and_its_log(settings: Settings, database: Database) -> None:
    job, failure = run(settings, database, broken(settings, database))
    assert job.error == failure.error == "internal error: KeyError: 'seed'"
    assert failure.attempt == 1
    assert failure.traceback is not None
    assert failure.traceback.startswith("Traceback")
    assert "job_inputs.py" in failure.traceback
    assert "stage 'prepare'" in failure.log
    assert "ERROR worker.job_process: internal error" in failure.log


def test_an_error_that_a_user_can_act_on_is_kept_with_its_traceback(settings: Settings, database: Database) -> None:
    _, failure = run(settings, database, submitted(settings, database, dataset=with_dataset(settings, database)))
    assert failure.traceback is not None
    assert "dataset_file.py" in failure.traceback
    assert "internal error" not in failure.log


@pytest.mark.parametrize(
    ("number", "words", "log"),
    [(signal.SIGSEGV, "SIGSEGV", "Fatal Python error: Segmentation fault"), (signal.SIGKILL, "want of memory", "")],
)
def test_a_process_that_crashes_leaves_its_last_lines(
    settings: Settings, database: Database, number: signal.Signals, words: str, log: str
) -> None:
    job_id = submitted(settings, database)
    thread = threading.Thread(target=lambda: kill_once_running(database, job_id, number))
    thread.start()
    job, failure = run(settings, database, job_id)
    thread.join()
    assert words in (job.error or "")
    assert failure.traceback is None
    assert "stage 'prepare'" in failure.log
    assert log in failure.log


def kill_once_running(database: Database, job_id: str, number: signal.Signals) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with database.reading() as session:
            if jobs.find(session, job_id).stage not in {"queued", "starting"}:
                break
        time.sleep(0.02)
    for child in psutil.Process().children(recursive=True):
        if "worker.job_process" in child.cmdline():
            child.send_signal(number)


def test_a_process_that_takes_too_long_is_asked_where_it_is(tmp_path: Path) -> None:
    _lay_out(tmp_path, "fp16", models.classifier(), _images())
    log = JobLog()
    child = Child(tmp_path, log, memory_bytes=16 * GIB, seconds=600, file_bytes=GIB)
    try:
        for message in child.messages(every_seconds=120):
            if message is not None and message["stage"] == "gate":
                child.dump_stack()
                break
    finally:
        child.end()
    assert "most recent call first" in log.text
    assert "job_process.py" in log.text


def test_a_job_that_times_out_has_a_log(settings: Settings, database: Database) -> None:
    short = settings.model_copy(update={"job_timeout_seconds": 0.3})
    job, failure = run(short, database, submitted(short, database))
    assert job.error == failure.error == "the job took longer than 0.3 s"


def test_each_attempt_of_a_worker_that_died_is_kept(settings: Settings, database: Database) -> None:
    job_id = submitted(settings, database)
    for attempt in (1, 2):
        with database.writing() as session:
            assert jobs.claim(session, job_id)
        with database.writing() as session:
            assert jobs.expire(session, jobs.heartbeats(session), max_attempts=2) == [job_id]
        with database.reading() as session:
            rows = failures.of_job(session, job_id)
            assert rows is not None
            assert [row.attempt for row in rows] == list(range(1, attempt + 1))
            assert rows[-1].error == "the worker died or was cut off at stage 'starting'"
    with database.reading() as session:
        assert jobs.state_of(session, job_id) == "failed"


def rerun(folder: Path, *before: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", *before, "-m", "worker.rerun", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(CODE)}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, timeout=150)


@pytest.mark.parametrize(("arguments", "words"), [([], "usage"), (["missing"], "missing holds no job.json")])
def test_a_rerun_of_no_job_is_one_line(monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["rerun", *arguments])
    with pytest.raises(SystemExit, match=words):
        runpy.run_module("worker.rerun", run_name="__main__")


def test_the_folder_of_a_failed_job_can_be_run_again_under_a_debugger(settings: Settings, database: Database) -> None:
    keeping = settings.model_copy(update={"keep_failed_jobs": 1})
    job_id = broken(keeping, database)
    _, failure = run(keeping, database, job_id)
    folder = keeping.home.absolute() / "failed-jobs" / job_id
    assert f"the folder of the job is kept: {folder}" in failure.log
    assert list(keeping.scratch_folder.glob("job-*")) == []

    again = rerun(folder)
    assert again.returncode == 1
    assert "KeyError: 'seed'" in again.stderr

    debugged = rerun(folder, "-m", "pdb", "-c", "continue", stdin="p self.spec.method\nquit\nquit\n")
    assert "KeyError: 'seed'" in debugged.stderr
    assert "(Pdb) 'dynamic'" in debugged.stdout

    spec = json.loads((folder / "job.json").read_text())
    options = {"seed": 0, "evaluation_samples": 100, "max_accuracy_drop": 0.01, "min_speedup": None}
    (folder / "job.json").write_text(json.dumps(spec | {"method": "fp16", "options": options}))
    mended = rerun(folder)
    assert mended.returncode == 0, mended.stderr
    assert f"artifact: {folder / 'variant.onnx'}" in mended.stdout
    assert (folder / "variant.onnx").exists()
