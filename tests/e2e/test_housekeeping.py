"""Backups, restores and clearing up, by the commands, while the service is at work."""

import threading
from pathlib import Path

import pytest

from tests import graphs
from tests.e2e.service import Process, Service

INFER = "/v2/models/model/versions/{}/infer"


def run(service: Service, *arguments: str) -> str:
    """What the command says; fails when the command does."""
    log = service.home.parent / "command.log"
    log.unlink(missing_ok=True)
    assert Process(list(arguments), service.environment, log).popen.wait(60) == 0, log.read_text()
    return log.read_text()


def new_service(folder: Path) -> Service:
    folder.mkdir()
    return Service(folder / "home")


def answer(service: Service, variant: str) -> object:
    tensor = {"name": "image", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": [0.25] * 192}
    answered = service.http.post(INFER.format(variant), json={"inputs": [tensor]})
    assert answered.status_code == 200, answered.text
    return answered.json()["outputs"]


class Uploads(threading.Thread):
    """New models and deletions, one after the other, until told to stop."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self._service = service
        self.stopping = threading.Event()
        self.done = 0

    def run(self) -> None:
        model = graphs.linear_classifier()
        while not self.stopping.is_set():
            # Other bytes each time, for a blob of its own.
            model.graph.name = f"number {self.done}"
            self._service.upload_model(model.SerializeToString(), name="other")
            assert self._service.http.delete("/api/v1/models/other").status_code == 204
            self.done += 1
            self.stopping.wait(0.1)


def test_a_backup_of_a_busy_service_is_served_elsewhere(
    service: Service, model_bytes: bytes, dataset_bytes: bytes, tmp_path: Path
) -> None:
    service.upload_dataset(dataset_bytes)
    service.upload_model(model_bytes)
    assert service.finished(service.submit(method="int8", dataset="samples"))["state"] == "succeeded"
    before = {variant: answer(service, variant) for variant in ("original", "int8")}
    uploads = Uploads(service)
    uploads.start()
    saved = [tmp_path / f"saved-{number}.tar" for number in range(2)]
    for target in saved:
        assert "Saved" in run(service, "backup", str(target))
    uploads.stopping.set()
    uploads.join(timeout=60)
    assert uploads.done > 0

    elsewhere = new_service(tmp_path / "elsewhere")
    assert "Restored" in run(elsewhere, "restore", str(saved[-1]))
    elsewhere.start()
    try:
        assert {variant: answer(elsewhere, variant) for variant in before} == before
        assert elsewhere.variants() == service.variants()
        # It goes on from there.
        assert elsewhere.finished(elsewhere.submit(method="fp16", dataset="samples"))["state"] == "succeeded"
    finally:
        elsewhere.stop()
    for target in saved[:-1]:
        assert "Restored" in run(new_service(tmp_path / target.stem), "restore", str(target))


def test_clearing_up_beside_a_busy_service_takes_nothing_that_it_needs(
    embedded: Service, model_bytes: bytes, dataset_bytes: bytes
) -> None:
    embedded.upload_dataset(dataset_bytes)
    embedded.upload_model(model_bytes)
    job_id = embedded.submit(method="int8", dataset="samples")
    uploads = Uploads(embedded)
    uploads.start()
    for _ in range(3):
        assert "0 blobs" in run(embedded, "gc")
    uploads.stopping.set()
    uploads.join(timeout=60)
    assert uploads.done > 0
    assert embedded.finished(job_id)["state"] == "succeeded"
    answer(embedded, "int8")
    lost = embedded.home / "blobs" / "ab" / ("ab" + "0" * 62)
    lost.parent.mkdir(exist_ok=True)
    lost.write_bytes(b"nobody's")
    assert "1 blobs" in run(embedded, "gc")
    assert not lost.exists()
    answer(embedded, "int8")


@pytest.mark.parametrize("arguments", [["doctor"], pytest.param(["doctor", "--json"], marks=pytest.mark.slow)])
def test_a_running_service_is_found_well(embedded: Service, arguments: list[str]) -> None:
    told = run(embedded, *arguments)
    assert "slots at work" in told
    assert "problem" not in told


def test_a_backup_onto_a_full_disk_says_so_and_leaves_nothing(embedded: Service, model_bytes: bytes) -> None:
    embedded.upload_model(model_bytes)
    log = embedded.home.parent / "command.log"
    assert Process(["backup", "/dev/full/saved.tar"], embedded.environment, log).popen.wait(60) == 1
    assert "/dev/full" in log.read_text()
    assert embedded.leftovers() == []


def test_restoring_onto_a_service_that_has_something_is_refused(
    embedded: Service, model_bytes: bytes, tmp_path: Path
) -> None:
    embedded.upload_model(model_bytes)
    run(embedded, "backup", str(tmp_path / "saved.tar"))
    log = embedded.home.parent / "command.log"
    done = Process(["restore", str(tmp_path / "saved.tar")], embedded.environment, log).popen
    assert done.wait(60) == 1
    assert "not empty" in log.read_text()
    answer(embedded, "original")
