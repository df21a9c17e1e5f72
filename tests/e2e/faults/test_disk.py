"""A disk that is full: a small one of their own that holds all files of a service."""

import io
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import psutil
import psycopg
import pytest

from tests import graphs
from tests.e2e.faults.conftest import running_stack
from tests.e2e.faults.whole import assert_whole
from tests.e2e.service import Service, eventually
from tests.servers import missing

MIB = 1 << 20
DISK_MIB, INODES = 96, 4000
CHILD = "worker.pipeline"
#: Of the model that is uploaded; what a job makes of it has half.
MODEL_BYTES = 6 * MIB
INPUTS = [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]
#: As `app.registry.database.lock_blobs` has it.
LOCK_BLOBS = "SELECT pg_advisory_xact_lock(811734001)"

FILES = {"models": "model.onnx", "datasets": "samples.npz"}
numbers = count(1)


@dataclass(frozen=True)
class Disk:
    """A tmpfs at `place`."""

    place: Path

    @contextmanager
    def full(self, *, left: int = 0) -> Iterator[None]:
        """While the block runs, others find `left` bytes free."""
        ballast = self.place / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.place).free - left)
        try:
            yield
        finally:
            ballast.unlink()

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
        missing("the right to mount a tmpfs")
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


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
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


def post(service: Service, noun: str, name: str, content: bytes) -> httpx.Response:
    """Sent piece by piece, as large files are."""
    return service.http.post(f"/api/v1/{noun}", files={"file": (FILES[noun], io.BytesIO(content))}, data={"name": name})


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


@pytest.mark.parametrize("share", [0.25, 0.75, 1.25, 1.75])
def test_a_model_that_does_not_fit_is_refused_wherever_room_ends(site: Site, share: float) -> None:
    service, content = site.service, large_model()
    with site.disk.full(left=int(share * len(content))):
        assert_says_so(post(service, "models", "large", content))
        assert_serves(service)
    assert service.http.get("/api/v1/models/large").status_code == 404
    assert_all_works(service)


@pytest.mark.parametrize("left", [0, MIB, 8 * MIB])
def test_a_dataset_that_unpacks_to_more_than_fits_is_refused(site: Site, left: int) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros((40_000, 100), np.float32))
    assert len(buffer.getvalue()) < MIB
    with site.disk.full(left=left):
        assert_says_so(post(site.service, "datasets", "wide", buffer.getvalue()))
        assert_serves(site.service)
    assert site.service.http.get("/api/v1/datasets/wide").status_code == 404
    assert_all_works(site.service)


def child_of(service: Service) -> psutil.Process:
    return eventually(lambda: service.processes["worker"].find(CHILD), what="a job's process")


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


def test_a_job_whose_artifact_can_have_no_name_fails_and_says_so(site: Site) -> None:
    service = site.service
    job_id = service.submit(model="linear", method="fp16", variant=f"v{next(numbers)}")
    child = child_of(service)
    stages = ("gate", "evaluate")
    while service.job(job_id)["stage"] not in stages:
        child.resume()
        time.sleep(0.005)
        child.suspend()
    with site.disk.without_inodes():
        child.resume()
        job = service.finished(job_id)
        assert (job["state"], job["attempts"]) == ("failed", 1), job
        assert "full" in job["error"], job
        assert_serves(service)
    assert_all_works(service)


def test_a_job_whose_artifact_cannot_be_stored_fails_and_says_so(site: Site) -> None:
    service = site.service
    if not site.registry_apart:
        pytest.skip("no lock of the registry holds up a worker there")
    model = graphs.linear_classifier(seed=next(numbers)).SerializeToString()
    service.upload_model(model, name="held")
    with psycopg.connect(service.environment["OCTET_DATABASE_URL"]) as holder:
        holder.execute(LOCK_BLOBS)
        job_id = service.submit(model="held", method="fp16")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        eventually(lambda: holder.execute(waiting, [holder.info.backend_pid]).fetchone() != (0,), what="the worker")
        with site.disk.without_inodes():
            holder.rollback()
            job = service.finished(job_id)
            assert (job["state"], job["attempts"]) == ("failed", 1), job
            assert "full" in job["error"], job
            assert_serves(service)
    assert_all_works(service)


def test_what_the_registry_cannot_keep_is_refused_and_what_it_kept_is_done(site: Site) -> None:
    service, kept, refused = site.service, [], []
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
