import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from app import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


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
