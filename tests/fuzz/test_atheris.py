"""A short time of fuzzing, the same each time. `make fuzz` is the long one."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.browsing import artifacts
from tests.fuzz.campaign import ROOT, fuzz
from tests.fuzz.targets import TARGETS
from tests.servers import missing

#: About ten seconds of one core each.
RUNS = {"inspector": 6_000, "codec": 100_000, "grpc_codec": 80_000, "datasets": 2_500}
SEED = "-seed=1"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _atheris() -> None:
    if find_spec("atheris") is None:
        missing("atheris")


@pytest.mark.parametrize("target", TARGETS)
def test_whatever_comes_is_taken_or_refused_in_good_order(target: str, tmp_path: Path) -> None:
    findings = artifacts(tmp_path) / "findings" / target
    outcome = fuzz(target, tmp_path / "corpus", findings, [f"-runs={RUNS[target]}", SEED])
    assert outcome.is_clean, str(outcome)
    assert outcome.runs >= RUNS[target]
    assert outcome.coverage > 0


def test_a_defect_is_found_kept_and_can_be_repeated(tmp_path: Path) -> None:
    outcome = fuzz("planted", tmp_path / "corpus", tmp_path / "findings", ["-runs=100000", SEED])
    assert not outcome.is_clean
    assert "KeyError" in outcome.said
    (finding,) = outcome.findings
    assert f"--replay {finding}" in str(outcome)
    command = [sys.executable, "-m", "tests.fuzz", "planted", "--replay", str(finding)]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "KeyError: 'planted'" in again.stderr
