import io
import threading

import httpx
import pytest
from rich.console import Console

from app.cli.progress import bytes_bar, follow
from app.errors import OctetError
from tests.app.cli.answers import JOB, connection, stream

INT8 = JOB | {"id": "a" * 32}
FP16 = JOB | {"id": "b" * 32, "variant": "fp16", "method": "fp16"}
SUCCEEDED = {"state": "succeeded", "stage": "done", "progress": 1.0}
FAILED = {"state": "failed", "stage": "calibrate", "progress": 0.25, "error": "no samples"}


def test_jobs_are_followed_at_once_and_returned_in_their_order() -> None:
    together = threading.Barrier(2, timeout=20)
    ends = {INT8["id"]: SUCCEEDED, FP16["id"]: FAILED}

    def answer(request: httpx.Request) -> httpx.Response:
        job_id = request.url.path.split("/")[4]
        if request.url.path.endswith("/events"):
            # Passed only when both streams are open at the same time.
            together.wait()
            running = {"state": "running", "stage": "calibrate", "progress": 0.1}
            return httpx.Response(200, content=stream([JOB, running, ends[job_id]]))
        return httpx.Response(200, json=JOB | {"id": job_id} | ends[job_id])

    written = io.StringIO()
    ended = follow(Console(file=written, width=120), connection(answer), [INT8, FP16])
    assert [(job["id"], job["state"]) for job in ended] == [(INT8["id"], "succeeded"), (FP16["id"], "failed")]
    bars = {line.split()[0]: line for line in written.getvalue().splitlines() if line.strip()}
    assert "100%" in bars["int8"]
    assert "done" in bars["int8"]
    assert "25%" in bars["fp16"]
    assert "calibrate" in bars["fp16"]


def test_a_job_that_cannot_be_followed_is_an_error_and_not_a_success() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == f"/api/v1/jobs/{FP16['id']}/events":
            return httpx.Response(404, json={"detail": "there is no such job"})
        return httpx.Response(200, content=stream([SUCCEEDED]))

    with pytest.raises(OctetError, match="no such job"):
        follow(Console(file=io.StringIO()), connection(answer), [INT8, FP16])


def test_what_a_job_tells_of_itself_is_shown_beside_its_bar() -> None:
    text = "trial 7 · best 1.42x,\n −0.1 points [2 min left]"
    told = FAILED | {"detail": {"text": text, "trial": 7}}

    def shown(event: dict[str, object]) -> str:
        def answer(request: httpx.Request) -> httpx.Response:
            is_stream = request.url.path.endswith("/events")
            return httpx.Response(200, content=stream([event])) if is_stream else httpx.Response(200, json=INT8)

        written = io.StringIO()
        follow(Console(file=written, width=160), connection(answer), [INT8])
        return written.getvalue()

    assert "trial 7 · best 1.42x, −0.1 points [2 min left]" in shown(told)
    # Without a line for people, and from a service that knows of no details, there is nothing to show.
    assert "trial" not in shown(FAILED | {"detail": {"trial": 8}})
    assert "trial" not in shown(SUCCEEDED)


def test_a_bar_ends_where_the_bytes_end() -> None:
    written = io.StringIO()
    with bytes_bar(Console(file=written, width=120), "model.onnx", 4_000_000) as count:
        count(1_000_000)
        count(4_000_000)
    assert "model.onnx" in written.getvalue()
    assert "4.0/4.0 MB" in written.getvalue()


def test_a_bar_of_unknown_length_shows_what_was_done() -> None:
    written = io.StringIO()
    with bytes_bar(Console(file=written, width=120), "weights.data", None) as count:
        count(3_000_000)
    assert "3.0/? MB" in written.getvalue()
