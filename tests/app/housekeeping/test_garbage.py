import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import update

from app.contracts import methods
from app.digest import sha256_of
from app.housekeeping.garbage import Garbage, collect
from app.intake.deposit import deposit
from app.registry import Database, jobs, models
from app.registry.tables import Job, now
from app.scratch import job_folder, private_folder
from tests.app.housekeeping.conftest import Home
from tests.app.registry.conftest import new_revision

MONTH = timedelta(days=30)


def collected(database: Database, home: Home, *, dry_run: bool = False) -> Garbage:
    return collect(database, home.blobs, home.scratch, jobs_older_than=MONTH, dry_run=dry_run)


def new_job(database: Database, *, state: str, days_ago: int) -> str:
    with database.writing() as session:
        model = models.find(session, "resnet", for_update=True)
        job = jobs.submit(
            session,
            model=model,
            revision=models.find_revision(session, model),
            method=methods.find("fp16"),
            options={},
            dataset=None,
            label=f"{state}-{days_ago}",
        )
        ended = None if state in jobs.LIVE else now() - timedelta(days=days_ago)
        session.execute(update(Job).where(Job.id == job.id).values(state=state, finished_at=ended))
        return job.id


def test_blobs_that_no_row_names_go_and_the_others_stay(
    database: Database, home: Home, upload: Callable[[str, bytes], str]
) -> None:
    kept, lost = upload("resnet", b"weights"), home.new_blob(b"nobody's")
    looked = collected(database, home, dry_run=True)
    assert set(home.contents()) == {kept, lost}
    assert collected(database, home) == looked == Garbage(blobs=1, blob_bytes=8, folders=0, jobs=0)
    assert home.contents() == {kept: b"weights"}
    assert collected(database, home) == Garbage(0, 0, 0, 0)


def test_a_blob_that_an_upload_is_about_to_name_stays(database: Database, home: Home) -> None:
    path = home.scratch / "upload"
    path.write_bytes(b"weights")
    digest = sha256_of(path)
    collecting = threading.Thread(target=collected, args=(database, home))
    with deposit(database, home.blobs, {digest: path}) as session:
        # It lies among the blobs, and no row that others see names it.
        collecting.start()
        collecting.join(timeout=0.5)
        models.register(session, "resnet", new_revision(digest=digest, file_digest=digest))
    collecting.join(timeout=60)
    assert not collecting.is_alive()
    assert home.contents() == {digest: b"weights"}


def test_jobs_that_ended_long_ago_go(database: Database, home: Home, upload: Callable[[str, bytes], str]) -> None:
    upload("resnet", b"weights")
    kept = {
        new_job(database, state=state, days_ago=days)
        for state, days in (("succeeded", 29), ("running", 99), ("queued", 98))
    }
    for state in jobs.FINAL:
        new_job(database, state=state, days_ago=31)
    assert collected(database, home).jobs == len(jobs.FINAL)
    with database.reading() as session:
        assert {job.id for job in jobs.listed(session)} == kept


def test_folders_of_processes_that_are_gone_go(
    database: Database, home: Home, upload: Callable[[str, bytes], str]
) -> None:
    upload("resnet", b"weights")
    job_id = new_job(database, state="queued", days_ago=0)
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    held = job_folder(home.scratch, lease.token)
    orphaned = job_folder(home.scratch, "0" * 32)
    dead = home.scratch / f"gateway-{socket.gethostname()}-{2**22 + 1}-0"
    elsewhere = home.scratch / f"gateway-another-host-{os.getpid()}-0"
    for folder in (held, orphaned, dead, elsewhere):
        folder.mkdir()
        (folder / "file").write_bytes(b"0")
    with private_folder(home.scratch) as own:
        assert collected(database, home).folders == 2
        assert set(home.scratch.iterdir()) == {held, elsewhere, own}
