"""Candidates of a search: written, and measured for accuracy, speed and size."""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.engines import Engine, LoadedModel
from app.errors import JobFailed
from worker import onnx_files
from worker.evaluation.heldout import Comparison
from worker.evaluation.latency import Latencies, measure
from worker.samples import Feeds
from worker.search.answers import Answers

# Seconds of one latency measurement: enough to tell 2 % apart, on a quiet machine; more for those that may be taken.
_LATENCY_SECONDS = 0.5
_FINAL_SECONDS = 1.5

Kept = frozenset[str]


@dataclass(frozen=True)
class Trial:
    """What was measured with the groups `kept`, by name, in FP32.

    `drop` is the share of the original's accuracy that is likely lost, infinite where an answer was not finite.
    """

    kept: Kept
    drop: float
    accuracy: float | None
    agreement: float | None
    sqnr_db: float | None
    latency_ms: float
    speedup: float
    size_bytes: int

    def dominates(self, other: "Trial") -> bool:
        """Whether it is no worse than `other` in anything, and better in something."""
        mine, theirs = self._goods, other._goods
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))

    @property
    def _goods(self) -> tuple[float, float, float]:
        # Of a few samples many trials lose equally many: the noise tells them apart.
        return (-self.drop if self.sqnr_db is None else self.sqnr_db, self.speedup, -self.size_bytes)


def front(trials: Iterable[Trial]) -> list[Trial]:
    """Those of `trials` that none dominates, the fastest first."""
    usable = [trial for trial in trials if trial.drop < math.inf]
    best = [trial for trial in usable if not any(other.dominates(trial) for other in usable)]
    return sorted(best, key=lambda trial: -trial.speedup)


def expected_drop(comparison: Comparison) -> float:
    """The share of the original's quality that is likely lost, by the first metric that can tell it; else 0."""
    drops = (metric.expected_drop() for metric in comparison.metrics)
    return next((drop for drop in drops if drop is not None), 0.0)


@dataclass
class Trials:
    """Makes trials in `folder`, each once.

    `write` puts what keeps certain groups in FP32 into a file. `requests` are what latency is measured with. After
    `deadline`, in seconds of `time.monotonic`, nothing is measured any more; `tell` hears of each trial.
    """

    write: Callable[[Kept, Path], Path | None]
    answers: Answers
    original: LoadedModel
    requests: Sequence[Feeds]
    folder: Path
    engine: Engine
    intra_op_threads: int
    seed: int
    deadline: float
    tell: Callable[[Trial], None]
    made: dict[Kept, Trial] = field(default_factory=dict)

    @property
    def time_is_up(self) -> bool:
        return time.monotonic() >= self.deadline

    def trial(self, kept: Kept) -> Trial | None:
        """What is measured with `kept` in FP32; None when there is no time left to, but for the first."""
        if kept not in self.made:
            if self.time_is_up and self.made:
                return None
            self.made[kept] = self._measured(kept)
            self.tell(self.made[kept])
        return self.made[kept]

    def measure_again(self, trial: Trial) -> Trial:
        """`trial` with its speed measured for longer: of many, the fastest was also the luckiest."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            artifact = Path(name) / "trial.onnx"
            self.write(trial.kept, artifact)
            latencies = self._latencies(artifact, _FINAL_SECONDS)
        again = replace(trial, latency_ms=latencies.variant_ms.p50, speedup=latencies.speedup)
        self.made[trial.kept] = again
        return again

    def _measured(self, kept: Kept) -> Trial:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            artifact = Path(name) / "trial.onnx"
            self.write(kept, artifact)
            latencies = self._latencies(artifact, _LATENCY_SECONDS)
            comparison = self._comparison(artifact)
            accuracy, agreement, sqnr_db = (
                comparison.figure(name).variant if comparison is not None else None
                for name in ("accuracy", "agreement", "sqnr_db")
            )
            return Trial(
                kept,
                expected_drop(comparison) if comparison is not None else math.inf,
                accuracy,
                agreement,
                sqnr_db,
                latencies.variant_ms.p50,
                latencies.speedup,
                onnx_files.size_bytes(artifact),
            )

    def _comparison(self, artifact: Path) -> Comparison | None:
        try:
            return self.answers.compared_with(artifact)
        except JobFailed:
            return None

    def _latencies(self, artifact: Path, seconds: float) -> Latencies:
        candidate = self.engine.load(artifact, intra_op_threads=self.intra_op_threads)
        return measure(
            self.original,
            candidate,
            self.requests,
            seed=self.seed,
            seconds=seconds,
            progress=lambda share: None,
        )
