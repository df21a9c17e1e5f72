"""What a worker sees to beside its jobs."""

import threading
import time
from datetime import timedelta

import pytest

from app.blobs import open_store
from app.intake.deposit import deposit
from app.registry import Database, jobs
from app.registry.tables import Dataset, now
from app.scratch import failed_job_folder, job_folder, remove_leftovers
from app.settings import Settings
from tests.worker.runs import submitted
from worker.runner import Runner
from worker.sweeper import Sweeper


def sweeper(settings: Settings, database: Database, started: list[str] | None = None) -> Sweeper:
    blobs = open_store(settings)
    runner = Runner(settings, database, blobs)
    return Sweeper(settings, database, blobs, runner, start=[].append if started is None else started.append)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_jumps_takes_no_job_from_a_worker_that_lives(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    job_id = submitted(settings, database)
    sweeps = sweeper(settings.model_copy(update={"job_lease_seconds": 0.01}), database)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    sweeps.sweep()
    monkeypatch.setattr(jobs, "now", lambda: now() + jump)
    for _ in range(5):
        with database.writing() as session:
            jobs.renew(session, lease)
        sweeps.sweep()
    with database.reading() as session:
        assert jobs.find(session, job_id).state == "running"
    # Once it is silent, it is taken all the same.
    for _ in range(100):
        sweeps.sweep()
    with database.reading() as session:
        assert jobs.find(session, job_id).state == "queued"


def test_a_job_that_no_message_reached_is_started_though_its_moments_lie_ahead(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sweeper._LOST_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(jobs, "now", lambda: now() + timedelta(hours=1))
    job_id = submitted(settings, database)
    with database.writing() as session:
        jobs.announced(session, [job_id])
    monkeypatch.undo()
    monkeypatch.setattr("worker.sweeper._LOST_AFTER_SECONDS", 0.01)
    started: list[str] = []
    sweeps = sweeper(settings, database, started)
    sweeps.sweep()
    assert started == []
    while not started:
        sweeps.sweep()
    assert started == [job_id]


def test_a_blob_that_a_killed_process_left_goes_and_one_in_the_making_stays(
    settings: Settings, database: Database
) -> None:
    blobs = open_store(settings)
    submitted(settings, database)
    for name in ("b", "c"):
        (settings.scratch_folder / name).write_bytes(name.encode())
    blobs.put(settings.scratch_folder / "b", "b" * 64)
    tidying = threading.Thread(target=sweeper(settings, database).tidy)
    with deposit(database, blobs, {"c" * 64: settings.scratch_folder / "c"}) as session:
        tidying.start()
        tidying.join(0.5)
        assert tidying.is_alive(), "it did not wait for a transaction that may be about to name the blob"
        session.add(Dataset(name="c", digest="c" * 64, size_bytes=1, samples=1, arrays=[], labelled=False))
    tidying.join()
    assert set(blobs.digests()) == {"a" * 64, "c" * 64}


def test_the_blobs_of_another_service_stay(
    settings: Settings, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = open_store(settings)
    foreign = {f"{number:064x}" for number in range(5)}
    for digest in foreign:
        path = settings.scratch_folder / digest
        path.write_bytes(digest.encode())
        blobs.put(path, digest)
    sweeper(settings, database).tidy()
    assert set(blobs.digests()) == foreign
    assert "5 blobs of the store have no row in this registry, which names 0" in caplog.text


def test_the_folder_of_a_job_whose_last_worker_died_is_kept(settings: Settings, database: Database) -> None:
    keeping = settings.model_copy(update={"keep_failed_jobs": 1, "job_max_attempts": 1, "job_lease_seconds": 0.01})
    job_id = submitted(settings, database)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    folder = job_folder(settings.scratch_folder, lease.token)
    folder.mkdir()
    (folder / "job.json").write_text("{}")
    sweeping = sweeper(keeping, database)
    # A pause between two looks counts for half of the lease at most.
    for _ in range(4):
        sweeping.sweep()
        time.sleep(0.02)
    kept = failed_job_folder(settings.home, job_id)
    assert (kept / "job.json").exists()
    assert not folder.exists()
    sweeping.tidy()
    remove_leftovers(settings.scratch_folder)
    assert kept.exists()
    with database.writing() as session:
        jobs.forget(session, [job_id])
    sweeping.tidy()
    assert not kept.exists()
