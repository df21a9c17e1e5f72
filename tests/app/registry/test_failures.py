"""What is kept of failed attempts: for whom, how much, and how long."""

from collections.abc import Callable

import pytest

from app.caller import CALLER, Caller, Scope
from app.registry import Database, failures, jobs, models
from app.registry.tables import Job

Submit = Callable[..., Job]


@pytest.fixture
def failed(database: Database, submit: Submit) -> str:
    """A job whose process logged much, some of it secret."""
    with database.writing() as session:
        job_id = submit(session).id
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    secret = "cannot reach postgresql://octet:hunter2@db/octet \udc80\0"
    with database.writing() as session:
        jobs.fail(session, lease, secret, traceback="x" * 100_000 + secret, log="y" * 100_000 + secret)
    return job_id


def test_what_is_kept_is_bounded_and_without_secrets(database: Database, failed: str) -> None:
    with database.reading() as session:
        (failure,) = failures.of_job(session, failed) or []
        error = jobs.find(session, failed).error
    assert failure.error == error == "cannot reach postgresql://octet:***@db/octet \\udc80"
    assert failure.traceback is not None
    for text in (failure.traceback, failure.log):
        assert len(text) == 1 << 16
        assert text.endswith(f"{'x' if text is failure.traceback else 'y'}{error}")


@pytest.mark.parametrize("scope", Scope)
def test_only_administrators_see_it(database: Database, failed: str, scope: Scope) -> None:
    token = CALLER.set(Caller("someone", scope))
    try:
        with database.reading() as session:
            rows = failures.of_job(session, failed)
    finally:
        CALLER.reset(token)
    assert (rows is not None) == (scope is Scope.admin)


@pytest.mark.parametrize("end", ["the job is forgotten", "the model is deleted"])
def test_it_goes_with_its_job(database: Database, failed: str, end: str) -> None:
    with database.writing() as session:
        if end == "the job is forgotten":
            jobs.forget(session, [failed])
        else:
            models.delete(session, "resnet")
    with database.reading() as session:
        assert failures.of_job(session, failed) == []
