"""What the child tells its parent."""

import json
import subprocess
import sys

import pytest

from worker import channel as channel_module
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


def test_a_detail_holds_until_the_next_one_or_the_next_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, clock = _Lines(), iter(range(100))
    monkeypatch.setattr(channel_module.time, "monotonic", lambda: next(clock))
    channel = Channel(lines)
    channel.progress("quantize", 0.1)
    channel.progress("quantize", 0.2, {"text": "trial 1"})
    channel.progress("quantize", 0.3)
    channel.progress("quantize", 0.4, {"text": "trial 2", "trial": 2})
    channel.progress("evaluate", 0.5)
    assert [message.get("detail") for message in lines.messages] == [
        None,
        {"text": "trial 1"},
        {"text": "trial 1"},
        {"text": "trial 2", "trial": 2},
        None,
    ]


def test_details_come_no_oftener_than_progress_and_the_latest_is_told_next(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, now = _Lines(), [0.0]
    monkeypatch.setattr(channel_module.time, "monotonic", lambda: now[0])
    channel = Channel(lines)
    channel.progress("quantize", 0.1, {"text": "trial 0"})
    for trial in range(1, 50):
        channel.progress("quantize", 0.1, {"text": f"trial {trial}"})
    now[0] = 0.2
    channel.progress("quantize", 0.1)
    assert [message["detail"] for message in lines.messages] == [{"text": "trial 0"}, {"text": "trial 49"}]


def test_a_checkpoint_is_announced_at_once_by_its_name() -> None:
    lines = _Lines()
    channel = Channel(lines)
    channel.checkpoint("weights.bin")
    channel.checkpoint("weights.bin")
    assert lines.messages == [{"checkpoint": "weights.bin"}] * 2


def test_a_figure_of_a_detail_that_is_not_a_number_is_null() -> None:
    lines = _Lines()
    Channel(lines).progress("train", 0.1, {"loss": float("nan"), "best": {"sqnr": [float("inf"), 1.5]}, "epoch": 3})
    assert lines.messages[0]["detail"] == {"loss": None, "best": {"sqnr": [None, 1.5]}, "epoch": 3}


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
