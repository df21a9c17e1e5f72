"""The clock on the wall jumps, by hours, under a gateway and a worker that go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import graphs
from tests.e2e.faults.test_processes import CHILD, SLOW, find, prepare
from tests.e2e.faults.whole import assert_whole
from tests.e2e.service import Service, eventually

pytestmark = pytest.mark.slow

X = [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]


class Clock:
    """What the programs of a test see on the wall: the time, and so many seconds."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        whole = self.file.with_suffix(".new")
        whole.write_text(str(seconds))
        whole.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def service(tmp_path: Path, clock: Clock) -> Iterator[Service]:
    """A gateway and a worker whose clock on the wall is the test's."""
    environment = {
        "PYTHONPATH": str(Path(__file__).parent / "jumping"),
        "WALL_CLOCK": str(clock.file),
        # Long beside a test, short beside the jump.
        "OCTET_JOB_LEASE_SECONDS": "20",
    }
    service = Service(tmp_path / "home", environment, apart=True)
    try:
        service.migrate()
        service.start()
        yield service
    finally:
        service.stop()


@pytest.mark.parametrize("hours", [3, -3])
def test_a_clock_that_jumps_loses_no_job_takes_none_and_stops_no_request(
    service: Service, clock: Clock, model_bytes: bytes, dataset_bytes: bytes, hours: int
) -> None:
    service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
    prepare(service, model_bytes, dataset_bytes)
    running = service.submit(**SLOW)
    service.when(running, "running")
    eventually(lambda: find(service, CHILD), what="a child process")
    waiting = service.submit(model="linear", method="fp16")
    clock.jump(hours * 3600)
    assert service.http.post("/v2/models/linear/infer", json={"inputs": X}).status_code == 200
    later = service.submit(model="linear", method="dynamic", options={"max_accuracy_drop": 1.0})
    jobs = [service.finished(job_id) for job_id in (running, waiting, later)]
    assert [(job["state"], job["attempts"]) for job in jobs] == [("succeeded", 1)] * 3
    # The clock did jump.
    assert (jobs[2]["created_at"] > jobs[0]["created_at"]) == (hours > 0)
    clock.jump(0)
    assert service.finished(service.submit(model="linear", method="fp16", variant="again"))["attempts"] == 1
    assert_whole(service)
