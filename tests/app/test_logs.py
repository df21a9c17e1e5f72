import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Literal

import pytest

from app import logs
from app.masking import masked


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    yield
    root.handlers, root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)


def test_a_line_names_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    token = logs.REQUEST_ID.set("r-7")
    logging.getLogger("octet.test").info("done")
    logs.REQUEST_ID.reset(token)
    logging.getLogger("octet.test").warning("apart")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("INFO octet.test [r-7] done")
    assert second.endswith("WARNING octet.test [-] apart")


def test_as_json_each_line_is_an_object_with_all_that_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    token = logs.REQUEST_ID.set("r-8")
    logging.getLogger("octet.test").info("too little")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("octet.test").exception("failed", extra={"model": "m"})
    logs.REQUEST_ID.reset(token)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"], said["request_id"], said["message"]) == (
        "ERROR",
        "octet.test",
        "r-8",
        "failed",
    )
    assert said["model"] == "m"
    assert "two\nlines" in said["exc_info"]
    assert "time" in said


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_password_and_no_key_leaves_in_a_line(
    form: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    key = "octet_abcdefghijkl_" + "0123456789abcdef" * 3
    logs.configure("info", form)
    logger = logging.getLogger("octet.test")
    logger.warning("cannot reach postgresql+psycopg://octet:hunter2@db/octet with %s", key)
    try:
        raise ValueError(f"redis://:hunter2@broker/0 {key}")
    except ValueError:
        logger.exception("failed")
    said = capsys.readouterr().err
    assert "hunter2" not in said
    assert key not in said
    assert said.count("octet_abcdefghijkl_***") >= 2
    assert "postgresql+psycopg://octet:***@db/octet" in said


def test_a_workers_line_names_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", "job_id")
    token = logs.JOB_ID.set("j-7")
    logging.getLogger("octet.test").info("done")
    logs.JOB_ID.reset(token)
    said = json.loads(capsys.readouterr().err)
    assert said["job_id"] == "j-7"
    assert "request_id" not in said


def test_what_nothing_catches_is_logged_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError("redis://:hunter2@broker/0")

    logs.configure("info", "json")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    warnings.warn("redis://:hunter2@broker/0", stacklevel=1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["CRITICAL", "CRITICAL", "WARNING"]
    assert all("redis://:***@broker/0" in json.dumps(line) for line in lines)
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://db/octet?user=octet&password=hunter2&sslmode=require", "password=***&sslmode=require"),
        ("host=db password=hunter2 dbname=octet", "password=*** dbname=octet"),
    ],
)
def test_a_password_among_the_parameters_of_a_connection_is_masked(text: str, shown: str) -> None:
    assert shown in masked(text)
    assert "hunter2" not in masked(text)


@pytest.mark.parametrize(
    "text",
    ['no "postgresql://db/octet?password=hunter2" here', "a name of a file: \udc80"],
)
def test_what_is_masked_leaves_json_whole(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("octet.test").exception("%s", text, extra={"path": "/v2/models/m@int8", "urls": [text]})
    said = json.loads(capsys.readouterr().err)
    assert said["message"] == masked(text).replace("\udc80", "\\udc80")
    assert said["path"] == "/v2/models/m@int8"


def test_masking_takes_no_texts_of_two_fields_for_one_password(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logging.getLogger("octet.test").info("http://127.0.0.1:8000", extra={"path": "/v2/models/m@int8"})
    said = json.loads(capsys.readouterr().err)
    assert (said["message"], said["path"]) == ("http://127.0.0.1:8000", "/v2/models/m@int8")


def test_masking_takes_no_longer_for_a_text_made_to_slow_it() -> None:
    text = "://a:" * 200_000
    begun = time.process_time()
    assert masked(text) == text
    assert masked(text + "b@") == "://a:***@"
    assert time.process_time() - begun < 2  # it took 25 s for an eighth of it
