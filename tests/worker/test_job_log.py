"""What a job's process says, on its way to the worker's log, and what is kept of it."""

import logging

import pytest

from worker.job_log import JobLog


def record(text: str, level: str = "WARNING") -> dict[str, str]:
    return {"logger": "worker.methods.fp16", "level": level, "text": text}


def test_records_are_logged_as_the_process_logged_them(caplog: pytest.LogCaptureFixture) -> None:
    log = JobLog()
    with caplog.at_level("INFO"):
        log.add_record(record("slow", "WARNING"))
        log.add_record(record("details", "DEBUG"))
    assert [(each.name, each.levelname, each.getMessage()) for each in caplog.records] == [
        ("worker.methods.fp16", "WARNING", "slow")
    ]
    assert "WARNING worker.methods.fp16: slow" in log.text
    assert "DEBUG worker.methods.fp16: details" in log.text


def test_lines_that_a_library_prints_are_logged_whole_wherever_they_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    log = JobLog()
    with caplog.at_level("INFO"):
        for chunk in (b"first\nsec", b"ond\nwithout", b" end"):
            log.add_output(chunk)
        log.end_output()
    assert [each.getMessage() for each in caplog.records] == ["first", "second", "without end"]
    assert log.text == "first\nsecond\nwithout end"


def test_of_a_process_that_prints_without_end_the_last_lines_are_kept_and_few_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = JobLog()
    with caplog.at_level("INFO"):
        for number in range(5000):
            log.add_output(b"line %d\n" % number)
    assert log.text.splitlines() == [f"line {number}" for number in range(4500, 5000)]
    assert len(caplog.records) == 1001
    assert "no more are logged" in caplog.messages[-1]


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_long_lines_do_not_outgrow_the_bound(ending: bytes) -> None:
    log = JobLog()
    for _ in range(100):
        log.add_output(b"x" * 60_000 + ending)
        log.add_record(record("y" * 60_000))
    log.end_output()
    assert len(log.text) <= 1 << 16


def test_no_secret_and_nothing_that_controls_a_terminal_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    log = JobLog()
    with caplog.at_level(logging.INFO):
        log.add_output(b"\x1b[31mredis://:hunter2@broker\x1b[m\x00\x07\r\xff\n")
        log.add_record(record("postgresql://octet:hunter2@db and octet_abcdefghijkl_" + "0" * 32))
    assert "hunter2" not in log.text
    assert "0" * 32 not in log.text
    assert log.text.splitlines()[0] == "redis://:***@broker�"
    assert not {"\x1b", "\x00", "\x07", "\r"} & set(log.text + caplog.text)


def test_no_secret_is_cut_in_two_before_it_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        JobLog().add_output(b"x" * 4070 + b" redis://:hunter2-and-more@broker\n")
    assert "hunter2" not in caplog.text
