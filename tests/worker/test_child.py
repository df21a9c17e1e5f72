"""Jobs of every method in the process that they really run in, confined."""

from pathlib import Path

import pytest

from app.contracts.methods import METHODS
from app.contracts.outcome import Outcome
from tests.servers import needs_torch
from tests.worker import models
from tests.worker.test_pipeline import _images, _lay_out
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
