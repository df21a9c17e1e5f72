"""What the child tells its parent."""

import json
import subprocess
import sys

import pytest

from worker.channel import Channel


class _Lines:
    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []

    def write(self, line: str) -> None:
        assert line.endswith("\n")
        assert line.count("\n") == 1
        self.messages.append(json.loads(line))


def test_progress_never_goes_back_and_is_not_told_too_often() -> None:
    lines = _Lines()
    channel = Channel(lines)
    for step in range(1000):
        channel.progress("evaluate", step / 1000)
    channel.progress("evaluate", 0.1)
    channel.progress("done", 0.2)
    assert len(lines.messages) < 10
    assert lines.messages[0] == {"stage": "evaluate", "progress": 0.0}
    assert lines.messages[-1] == {"stage": "done", "progress": 0.999}


def test_a_message_that_is_not_strict_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Channel(_Lines()).send({"value": float("nan")})


def test_what_libraries_print_stays_out_of_the_messages() -> None:
    program = (
        "import os; from worker.channel import claim_stdout; channel = claim_stdout();"
        "print('python prints'); os.write(1, b'C prints\\n'); channel.send({'a': 1})"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert ended.stdout == b'{"a": 1}\n'
    assert b"C prints" in ended.stderr
    assert b"python prints" in ended.stderr
