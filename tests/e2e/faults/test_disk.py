"""A disk that is full: a small one of their own that holds all files of a service."""

import io
import os
import shutil
import sqlite3
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import psutil
import psycopg
import pytest
from PIL import Image

from app.digest import sha256_of
from tests import graphs
from tests.e2e.faults.children import child_of, run_for
from tests.e2e.faults.whole import assert_whole
from tests.e2e.service import Service, eventually
from tests.e2e.shared import running_stack
from tests.servers import missing

MIB = 1 << 20
DISK_MIB, INODES = 96, 4000
#: Of the model that is uploaded; what a job makes of it has half.
MODEL_BYTES = 6 * MIB
INPUTS = [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]
#: As `app.registry.database.lock_blobs` has it.
LOCK_BLOBS = "SELECT pg_advisory_xact_lock(811734001)"

numbers = count(1)


@dataclass(frozen=True)
class Disk:
    """A tmpfs at `place`."""

    place: Path

    @contextmanager
    def full(self, *, left: int = 0) -> Iterator[None]:
        """While the block runs, others find `left` bytes free."""
        ballast = self.place / "ballast"
        try:
            with ballast.open("wb") as file:
                eventually(lambda: self._filled(file.fileno(), left), what="a full disk")
            yield
        finally:
            ballast.unlink()

    def _filled(self, file: int, left: int) -> bool:
        size, free = os.fstat(file).st_size, shutil.disk_usage(self.place).free
        try:
            os.posix_fallocate(file, size, max(free - left, 1))
        except OSError:
            # The service has written something meanwhile.
            return free == 0
        return True

    @contextmanager
    def without_inodes(self) -> Iterator[None]:
        """While the block runs, no file or folder can be made."""
        folder = self.place / "files"
        folder.mkdir()
        try:
            for number in range(INODES):
                try:
                    (folder / str(number)).touch()
                except OSError:
                    break
            assert os.statvfs(self.place).f_ffree == 0
            yield
        finally:
            shutil.rmtree(folder)


@contextmanager
def mounted(place: Path) -> Iterator[Disk]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,nr_inodes={INODES}", "octet-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        place.rmdir()
        missing("mount")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@dataclass(frozen=True)
class Site:
    """A service whose files lie on a disk of its own."""

    service: Service
    disk: Disk

    @property
    def registry_apart(self) -> bool:
        """Whether the registry lies elsewhere."""
        return "OCTET_DATABASE_URL" in self.service.environment


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a small model `linear`; the registry on the same disk, or beside it."""
    folder = tmp_path_factory.mktemp("disk")
    with mounted(folder / "home") as disk:
        if request.param == "postgresql":
            with running_stack(folder, tmp_path_factory.mktemp("pg")) as stack:
                yield prepared(Site(stack.service, disk))
            return
        service = Service(folder / "home", apart=True)
        service.migrate()
        service.start()
        try:
            yield prepared(Site(service, disk))
        finally:
            service.stop()


def prepared(site: Site) -> Site:
    site.service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
    return site


def large_model() -> bytes:
    """Other bytes each time."""
    features = MODEL_BYTES // (4 * 1024)
    return graphs.linear_classifier(features=features, classes=1024, seed=next(numbers)).SerializeToString()


def post(service: Service, noun: str, name: str, content: bytes, filename: str) -> httpx.Response:
    """Sent piece by piece, as large files are."""
    return service.http.post(f"/api/v1/{noun}", files={"file": (filename, io.BytesIO(content))}, data={"name": name})


def assert_says_so(answer: httpx.Response) -> None:
    assert answer.status_code == 507, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "full" in answer.json()["detail"]


def assert_serves(service: Service) -> None:
    """Whatever needs no room goes on."""
    for path in ("/v2/health/ready", "/api/v1/models", "/api/v1/jobs", "/api/v1/models/linear/variants", "/"):
        assert service.http.get(path).status_code == 200, path
    answer = service.http.post("/v2/models/linear/infer", json={"inputs": INPUTS})
    assert answer.status_code == 200, answer.text


def assert_all_works(service: Service) -> None:
    """Once there is room."""
    name = f"after-{next(numbers)}"
    service.upload_model(graphs.linear_classifier(seed=next(numbers)).SerializeToString(), name=name)
    assert service.finished(service.submit(model=name, method="fp16"))["state"] == "succeeded"
    assert_whole(service)


@pytest.mark.parametrize(
    "share", [0.75, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.25, 1.25, 1.75))]
)
def test_a_model_that_does_not_fit_is_refused_wherever_room_ends(site: Site, share: float) -> None:
    service, content = site.service, large_model()
    with site.disk.full(left=int(share * len(content))):
        assert_says_so(post(service, "models", "large", content, "model.onnx"))
        assert_serves(service)
    assert service.http.get("/api/v1/models/large").status_code == 404
    assert_all_works(service)


def packed_arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros((40_000, 100), np.float32))
    return buffer.getvalue()


def packed_images() -> bytes:
    """Of one colour each."""
    buffer, image = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (1024, 1024)).save(image, "PNG")
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(16):
            archive.writestr(f"black/{number}.png", image.getvalue())
    return buffer.getvalue()


def table() -> bytes:
    """Short numbers, which have four bytes each once they are read."""
    row = ",".join("0" for _ in range(100))
    return "\n".join([",".join(f"x{column}" for column in range(100)), *[row] * 40_000]).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filename", "content", "left"),
    [
        ("samples.npz", packed_arrays, 0),
        ("samples.npz", packed_arrays, MIB),
        ("samples.npz", packed_arrays, 8 * MIB),
        ("samples.zip", packed_images, 8 * MIB),
        ("samples.csv", table, 18 * MIB),
    ],
)
def test_a_dataset_that_unpacks_to_more_than_fits_is_refused(
    site: Site, filename: str, content: Callable[[], bytes], left: int
) -> None:
    packed = content()
    with site.disk.full(left=left):
        assert_says_so(post(site.service, "datasets", "wide", packed, filename))
        assert_serves(site.service)
    assert site.service.http.get("/api/v1/datasets/wide").status_code == 404
    assert_all_works(site.service)


def assert_failed_for_room(service: Service, job_id: str) -> None:
    job = service.finished(job_id)
    assert (job["state"], job["attempts"]) == ("failed", 1), job
    assert "disk" in job["error"], job
    assert "full" in job["error"], job


def test_a_job_whose_artifact_does_not_fit_fails_and_says_so(site: Site) -> None:
    service = site.service
    service.upload_model(large_model(), name="made")
    with site.disk.full(left=MODEL_BYTES // 4):
        job_id = service.submit(model="made", method="fp16")
        assert_failed_for_room(service, job_id)
        assert_serves(service)
    assert set(service.variants("made")) == {"original"}
    assert service.http.delete("/api/v1/models/made").status_code == 204
    assert_all_works(service)


@pytest.mark.slow
def test_a_job_in_whose_midst_the_disk_fills_fails_and_says_so(site: Site) -> None:
    service = site.service
    service.upload_model(large_model(), name="made")
    job_id = service.submit(model="made", method="fp16")
    child = child_of(service)
    child.suspend()
    with site.disk.full():
        child.resume()
        eventually(lambda: not child.is_running(), what="the end of the job's process")
        if site.registry_apart:
            assert_failed_for_room(service, job_id)
        assert_serves(service)
    # A registry that could write nothing hears of the end once there is room, or gives the job to its next worker.
    assert service.finished(job_id)["state"] in {"failed", "succeeded"}
    assert service.http.delete("/api/v1/models/made").status_code == 204
    assert_all_works(service)


def evaluated(service: Service) -> tuple[str, psutil.Process]:
    """A job that has made its artifact, and its process, suspended."""
    for _ in range(5):
        job_id = service.submit(model="linear", method="fp16", variant=f"v{next(numbers)}")
        child = child_of(service)
        child.suspend()
        while (job := service.job(job_id))["state"] in {"queued", "running"}:
            if job["stage"] in {"gate", "evaluate"}:
                return job_id, child
            run_for(child, 0.005)
    raise AssertionError("no job was caught while it was evaluated")


@pytest.mark.slow
def test_a_job_whose_artifact_can_have_no_name_fails_and_says_so(site: Site) -> None:
    service = site.service
    job_id, child = evaluated(service)
    with site.disk.without_inodes():
        child.resume()
        job = service.finished(job_id)
        assert (job["state"], job["attempts"]) == ("failed", 1), job
        assert "full" in job["error"], job
        assert_serves(service)
    assert_all_works(service)


@contextmanager
def publishing(service: Service) -> Iterator[tuple[str, Callable[[], None]]]:
    """A job whose worker is about to store what it made, in a folder that is not there yet, and what lets it go on."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    url = service.environment["OCTET_DATABASE_URL"]
    # What a transaction sees of the others stays as it was when it looked first.
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as looking:
        while True:
            number = next(numbers)
            service.upload_model(graphs.linear_classifier(seed=number).SerializeToString(), name=f"held-{number}")
            holder.execute(LOCK_BLOBS)
            job_id = service.submit(model=f"held-{number}", method="fp16")
            eventually(
                lambda: looking.execute(waiting, [holder.info.backend_pid]).fetchone() != (0,), what="the worker"
            )
            made = sha256_of(next((service.home / "scratch").glob("job-*/variant.onnx")))
            if not (service.home / "blobs" / made[:2]).exists():
                yield job_id, holder.rollback
                return
            holder.rollback()
            service.finished(job_id)


@pytest.mark.slow
@pytest.mark.parametrize("site", ["postgresql"], indirect=True)
def test_a_job_whose_artifact_cannot_be_stored_fails_and_says_so(site: Site) -> None:
    service = site.service
    with publishing(service) as (job_id, go_on), site.disk.without_inodes():
        go_on()
        job = service.finished(job_id)
        assert (job["state"], job["attempts"]) == ("failed", 1), job
        assert "full" in job["error"], job
        assert_serves(service)
    assert_all_works(service)


@pytest.mark.slow
def test_what_the_registry_cannot_keep_is_refused_and_what_it_kept_is_done(site: Site) -> None:
    service, kept, refused = site.service, [], []
    if not site.registry_apart:
        with closing(sqlite3.connect(service.home / "registry.sqlite3")) as registry:
            # Else there is room in the file that it writes to first.
            registry.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with site.disk.full():
        for number in range(40):
            answer = service.http.post(
                "/api/v1/jobs",
                json={"model": "linear", "method": "dynamic", "variant": f"full-{number}-{next(numbers)}"},
            )
            if answer.status_code == 202:
                kept.append(answer.json())
            else:
                assert_says_so(answer)
                refused.append(answer)
        assert_serves(service)
    assert bool(refused) != site.registry_apart
    ended = [service.finished(job["id"]) for job in kept]
    assert [job["variant"] for job in ended] == [job["variant"] for job in kept]
    assert {job["state"] for job in ended} <= {"succeeded", "failed"}
    assert_all_works(service)
