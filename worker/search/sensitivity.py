"""What each quantizer group does for speed and against accuracy, by itself."""

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from app.engines import Engine
from app.errors import JobFailed
from worker.evaluation.profile import node_times
from worker.graph.groups import Group
from worker.repair.judge import Judge
from worker.samples import Feeds
from worker.search.answers import Answers

#: Writes what quantizes these groups, by name, and no other.
WriteOnly = Callable[[frozenset[str], Path], Path | None]


@dataclass(frozen=True)
class Sensitivity:
    """A group alone. `damage` is the noise over signal that it makes at the model's outputs, None if not measured.

    `accuracy_change` is what it does to top-1, a share of the samples, where there are labels. `fp32_ms` and `int8_ms`
    are its share of a request, without the conversions at its borders.
    """

    group: Group
    damage: float | None
    fp32_ms: float
    int8_ms: float
    accuracy_change: float | None = None

    @property
    def saved_ms(self) -> float:
        return self.fp32_ms - self.int8_ms

    @property
    def damage_per_ms(self) -> float:
        """What a millisecond costs; infinite where INT8 saves none, and so is for nothing."""
        return (self.damage or 0.0) / self.saved_ms if self.saved_ms > 0.0 else math.inf


def damages(
    groups: Sequence[Group],
    write_only: WriteOnly,
    judge: Judge,
    answers: Answers | None,
    folder: Path,
    *,
    deadline: float,
    progress: Callable[[int], None],
) -> dict[str, tuple[float, float | None]]:
    """By group, the noise at the model's outputs when it alone is integer; only those reached before `deadline`."""
    found: dict[str, tuple[float, float | None]] = {}
    for group in groups:
        if found and time.monotonic() >= deadline:
            break
        with tempfile.TemporaryDirectory(dir=folder) as name:
            artifact = Path(name) / "alone.onnx"
            write_only(frozenset({group.name}), artifact)
            found[group.name] = (judge.noise(artifact), _accuracy_change(artifact, answers))
        progress(len(found))
    return found


def _accuracy_change(artifact: Path, answers: Answers | None) -> float | None:
    if answers is None:
        return None
    try:
        return answers.compared_with(artifact).figure("accuracy").change
    except JobFailed:
        return None


def group_times(
    groups: Sequence[Group],
    graph: onnx.GraphProto,
    fp32: Path,
    int8: Path,
    requests: Sequence[Feeds],
    folder: Path,
    *,
    engine: Engine,
    intra_op_threads: int,
) -> Mapping[str, tuple[float, float]]:
    """By group, milliseconds in the model at `fp32`, whose graph is `graph`, and in that at `int8` made of it.

    `engine` can profile.
    """
    before, after = (
        node_times(model, graph, requests, folder, engine=engine, intra_op_threads=intra_op_threads)
        for model in (fp32, int8)
    )
    return {
        group.name: (
            sum(before.get(node, 0.0) for node in group.nodes),
            sum(after.get(node, 0.0) for node in group.nodes),
        )
        for group in groups
    }
