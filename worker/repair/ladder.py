"""The ladder of repairs: rung by rung, what a rung proposes is written, measured, and kept when it helps."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from worker.repair.judge import Judge, decibels


class Writable(Protocol):
    """A design of any kind: it writes its artifact to `path`, and returns the data file beside it, if there is one."""

    def write(self, path: Path) -> Path | None: ...


D = TypeVar("D", bound=Writable)

# Less than this share of the noise gone is not worth telling from chance.
_SMALLEST_GAIN = 0.02


@dataclass(frozen=True)
class Proposal(Generic[D]):
    """A design that a rung makes of the one before, and what is done in words."""

    design: D
    change: str


@dataclass(frozen=True)
class Rung(Generic[D]):
    """`propose` gives the designs to be tried in place of one; none where the repair does not apply.

    `below_db`: it is tried only where the ratio of signal to noise is below this. `worth`: the share of the noise that
    must go for it to be kept.
    """

    name: str
    propose: Callable[[D, Path], Iterable[Proposal[D]]]
    below_db: float | None = None
    worth: float = _SMALLEST_GAIN


@dataclass(frozen=True)
class Step:
    """What one proposal gave: decibels of signal to noise on the samples that judge repairs; None is no noise."""

    rung: str
    change: str
    before_db: float | None
    after_db: float | None = None
    kept: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "repair": self.rung,
            "change": self.change,
            "sqnr_db_before": self.before_db,
            "sqnr_db_after": self.after_db,
            "kept": self.kept,
        }


@dataclass(frozen=True)
class Climbed(Generic[D]):
    """The best design found, its artifact, how noisy it is, and the steps that led there."""

    design: D
    artifact: Path
    data: Path | None
    noise: float
    steps: tuple[Step, ...]


def climb(
    start: D, rungs: Sequence[Rung[D]], judge: Judge, artifact: Path, progress: Callable[[float], None]
) -> Climbed[D]:
    """Try each of `rungs` in turn on the best design so far, beginning with `start`.

    Candidates are written into folders beside `artifact`, and the best one becomes that in the end.
    """
    bench: _Bench[D] = _Bench(judge, artifact)
    best = bench.written(start)
    for done, rung in enumerate(rungs, start=1):
        below = decibels(best.noise)
        if rung.below_db is None or (below is not None and below < rung.below_db):
            best = bench.tried(rung, best)
        progress(done / len(rungs))
    for file in best.artifact.parent.iterdir():
        file.rename(artifact.with_name(file.name))
    bench.discard(best)
    data = artifact.with_name(best.data.name) if best.data is not None else None
    return Climbed(best.design, artifact, data, best.noise, tuple(bench.steps))


@dataclass(frozen=True)
class _Candidate(Generic[D]):
    design: D
    artifact: Path
    data: Path | None
    noise: float


class _Bench(Generic[D]):
    """Where candidates are written and measured, one folder each."""

    def __init__(self, judge: Judge, artifact: Path) -> None:
        self.steps: list[Step] = []
        self._judge = judge
        self._artifact = artifact

    def written(self, design: D) -> _Candidate[D]:
        folder = self._artifact.with_name(f"candidate-{len(self.steps)}")
        folder.mkdir()
        artifact = folder / self._artifact.name
        data = design.write(artifact)
        return _Candidate(design, artifact, data, self._judge.noise(artifact))

    def tried(self, rung: Rung[D], best: _Candidate[D]) -> _Candidate[D]:
        """The best of `best` and of what `rung` makes of it; notes every trial."""
        leader, leading = best, None
        for proposal in rung.propose(best.design, best.artifact):
            self.steps.append(Step(rung.name, proposal.change, decibels(best.noise)))
            candidate = self.written(proposal.design)
            self.steps[-1] = replace(self.steps[-1], after_db=decibels(candidate.noise))
            loser = candidate
            if candidate.noise < min(leader.noise, best.noise * (1.0 - rung.worth)):
                leader, loser, leading = candidate, leader, len(self.steps) - 1
            if loser is not best:
                self.discard(loser)
        if leading is not None:
            self.steps[leading] = replace(self.steps[leading], kept=True)
            self.discard(best)
        return leader

    def discard(self, candidate: _Candidate[D]) -> None:
        shutil.rmtree(candidate.artifact.parent)
