"""Jobs of every method in the process that they really run in, confined."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.contracts.methods import METHODS
from app.contracts.outcome import Outcome
from app.errors import JobFailed
from tests.servers import needs_torch
from tests.worker import models
from tests.worker.test_pipeline import _images, _lay_out
from worker import child as child_module
from worker.child import Child
from worker.job_log import JobLog

pytestmark = pytest.mark.e2e

GIB = 1024**3


@pytest.mark.parametrize("method", METHODS)
def test_a_job_gets_all_that_it_needs_from_within_its_confinement(tmp_path: Path, method: str) -> None:
    if method == "qat":
        needs_torch()
    folder = tmp_path / "job"
    folder.mkdir()
    spec = _lay_out(folder, method, models.classifier(), _images(64))
    log = JobLog()
    child = Child(folder, log, memory_bytes=16 * GIB, seconds=600, file_bytes=GIB)
    try:
        said = [message for message in child.messages(every_seconds=120) if message is not None]
        assert "outcome" in said[-1], (said[-1], log.text)
        outcome = Outcome.model_validate(said[-1]["outcome"])
    finally:
        child.end()
    assert spec.method == method
    assert outcome.artifact is None or (folder / outcome.artifact).is_file()


def _said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> list[object]:
    """What `Child` makes of a process that runs `program` in place of a job."""

    def started(_module: str, _arguments: list[str], _grant: object, **options: Any) -> subprocess.Popen[bytes]:
        del options["environment"]
        return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, **options)

    monkeypatch.setattr(child_module, "start", started)
    child = Child(tmp_path, JobLog(), memory_bytes=GIB, seconds=60, file_bytes=GIB)
    try:
        said = [message for message in child.messages(every_seconds=30) if message is not None]
        return said or [child.crash("starting")]
    finally:
        child.end()


@pytest.mark.parametrize(
    "line",
    [
        "no JSON", "5", "{}", "[]", '{"log": {}}', '{"log": null}', '{"stage": 7}', '{"error": null}',
        '{"stage": "gate", "progress": NaN}', '{"checkpoint": ["x"]}', '{"outcome": {"artifact": 1}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_malformed_message_fails_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    with pytest.raises(JobFailed, match="malformed message"):
        _said(tmp_path, monkeypatch, f"print({line!r})")


def test_a_message_in_pieces_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """import os, time
for piece in (b'{"stage": ', b'"gate", "progress"', b': 0.5}' + bytes([10]) + b'{"checkpoint": "c"}', bytes([10])):
    os.write(1, piece)
    time.sleep(0.05)"""
    assert _said(tmp_path, monkeypatch, program) == [{"stage": "gate", "progress": 0.5}, {"checkpoint": "c"}]


def test_a_message_without_an_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_LONGEST_MESSAGE_BYTES", 1 << 20)
    with pytest.raises(JobFailed, match="more than 1048576 bytes"):
        _said(tmp_path, monkeypatch, "import sys\nwhile True: sys.stdout.write('x' * 65536)")


def test_a_signal_without_a_name_is_told_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = _said(tmp_path, monkeypatch, "import os; os.kill(os.getpid(), 40)")
    assert "crashed with signal 40" in str(told)
