"""One target, fuzzed in a process of its own for so many runs or seconds."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import seeds

ROOT = Path(__file__).parents[2]

#: Seconds that one input may take, and MiB that the process may: more is a finding.
_HANG_SECONDS = 20
_MEMORY_MB = 2048
_LONGEST_INPUT = 65536
_LAST_LINES = 60
_NOISE = ("#", "INFO: Instrumenting")


@dataclass(frozen=True)
class Outcome:
    """`runs`, `coverage` (edges) and `features` as libFuzzer counts them; `said`: the end of what it printed.

    `findings`: files of inputs, each of which raises what it should not, hangs, or takes too much memory.
    """

    target: str
    status: int
    runs: int
    coverage: int
    features: int
    findings: tuple[Path, ...]
    said: str

    @property
    def is_clean(self) -> bool:
        return self.status == 0 and not self.findings

    def __str__(self) -> str:
        counts = f"{self.target}: {self.runs} runs, {self.coverage} edges, {self.features} features"
        if self.is_clean:
            return f"{counts}, nothing found"
        again = [f"  again: python -m tests.fuzz {self.target} --replay {path}" for path in self.findings]
        return "\n".join([f"{counts}, ended with status {self.status}", *again, self.said])


def fuzz(target: str, corpus: Path, findings: Path, options: Sequence[str]) -> Outcome:
    """Fuzz `target` until `options`, which are libFuzzer's, end it. `corpus` grows by what reaches new code.

    Inputs that are findings are written to `findings`; the first one ends it.
    """
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds(target):
        (corpus / hashlib.sha256(seed).hexdigest()[:32]).write_bytes(seed)
    before = set(findings.iterdir())
    command = [
        *(sys.executable, "-m", "tests.fuzz.driver", target, str(corpus), f"-artifact_prefix={findings}{os.sep}"),
        *(f"-timeout={_HANG_SECONDS}", f"-rss_limit_mb={_MEMORY_MB}", f"-max_len={_LONGEST_INPUT}"),
        *("-print_final_stats=1", "-reload=0", *options),
    ]
    # Sets in another order would be other runs.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    return Outcome(
        target,
        done.returncode,
        _last(r"stat::number_of_executed_units: *(\d+)", said) or _last(r"^#(\d+)\t", said),
        _last(r"\bcov: (\d+)", said),
        _last(r"\bft: (\d+)", said),
        tuple(sorted(set(findings.iterdir()) - before)),
        "\n".join(line for line in said.splitlines() if not line.startswith(_NOISE))[-_LAST_LINES * 100 :],
    )


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text, re.MULTILINE)
    return int(found[-1]) if found else 0
