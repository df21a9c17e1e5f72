from datetime import timedelta

from app.registry.tables import Job, Model, Revision, now
from app.web.jobs import JobLine


def job(**changes: object) -> Job:
    facts: dict[str, object] = {
        "id": "1",
        "model": Model(name="resnet"),
        "revision": Revision(number=2),
        "label": "int8",
        "method": "int8",
        "options": {},
        "state": "running",
        "stage": "calibrate",
        "progress": 0.5,
        "attempts": 1,
        "cancel_requested": False,
        "created_at": now(),
    }
    return Job(**(facts | changes))


def test_a_job_that_has_not_started_has_run_for_no_time() -> None:
    line = JobLine.of(job(state="queued"))
    assert (line.seconds, line.is_live, line.version) == (None, True, None)


def test_an_ended_job_shows_how_long_it_ran() -> None:
    started = now() - timedelta(hours=1)
    line = JobLine.of(job(state="failed", started_at=started, finished_at=started + timedelta(seconds=12), error="no"))
    assert (line.seconds, line.is_live, line.tone, line.error) == (12.0, False, "bad", "no")


def test_what_its_method_tells_is_shown() -> None:
    assert JobLine.of(job(detail={"text": "epoch 3/20", "epoch": 3})).saying == "epoch 3/20"
    assert JobLine.of(job(detail=None)).saying == ""


def test_a_job_that_is_to_be_cancelled_is_ending() -> None:
    assert JobLine.of(job(cancel_requested=True)).is_ending
    assert not JobLine.of(job(cancel_requested=True, state="cancelled")).is_ending


def test_an_evaluation_is_called_one() -> None:
    assert JobLine.of(job()).title == "int8 of resnet"
    assert JobLine.of(job(label="original", method="evaluate")).title == "evaluation of resnet"
