"""What a group does by itself."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.worker import models
from tests.worker.models import ENGINE
from worker.graph.groups import Group, quantizer_groups
from worker.graph.prepare import prepare
from worker.graph.selection import select_static
from worker.repair.judge import Judge
from worker.search.answers import Answers
from worker.search.sensitivity import Sensitivity, damages, group_times

_X = {"x": models.normal(32, 3, 8, 8)}


def _sensitivity(damage: float | None, fp32_ms: float, int8_ms: float) -> Sensitivity:
    return Sensitivity(Group("g", ("g",), ("g",)), damage, fp32_ms, int8_ms)


def test_damage_counts_by_the_time_that_it_buys() -> None:
    assert _sensitivity(0.1, 3.0, 1.0).damage_per_ms == pytest.approx(0.05)


@pytest.mark.parametrize("int8_ms", [1.0, 2.0])
def test_what_saves_no_time_is_not_worth_any_damage(int8_ms: float) -> None:
    assert _sensitivity(0.0, 1.0, int8_ms).damage_per_ms == math.inf


def _write_only(integer: frozenset[str], path: Path) -> Path | None:
    """The classifier, its last bias off by as much as the group is harmful."""
    (name,) = integer
    model = models.classifier()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "fb")
    off = onnx.numpy_helper.to_array(bias) + np.float32({"a": 0.01, "b": 1.0, "c": 0.1}[name]) * np.arange(5)
    bias.CopyFrom(onnx.numpy_helper.from_array(off.astype(np.float32), "fb"))
    path.write_bytes(model.SerializeToString())
    return None


def _groups(names: str) -> list[Group]:
    return [Group(name, (name,), (name,)) for name in names]


def test_the_most_harmful_group_makes_the_most_noise_and_loses_most_answers(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    indices = np.arange(32)
    judge = Judge(source, _X, indices, engine=ENGINE, threads=1)
    labels = Answers(source, _X, indices, None, engine=ENGINE, threads=1, seconds=9.0).model.run(_X)[0].argmax(axis=1)
    answers = Answers(source, _X, indices, labels.astype(np.int64), engine=ENGINE, threads=1, seconds=9.0)
    told: list[int] = []
    found = damages(_groups("abc"), _write_only, judge, answers, tmp_path, deadline=math.inf, progress=told.append)
    assert found["a"][0] < found["c"][0] < found["b"][0]
    changes = {name: change for name, (_, change) in found.items()}
    assert changes["b"] is not None
    assert changes["b"] < -0.1
    assert changes["a"] is not None
    assert changes["a"] > changes["b"]
    assert told == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["original.onnx"]


def test_when_time_is_up_the_first_group_is_measured_and_the_others_are_not(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    judge = Judge(source, _X, np.arange(8), engine=ENGINE, threads=1)
    found = damages(_groups("abc"), _write_only, judge, None, tmp_path, deadline=0.0, progress=lambda done: None)
    assert list(found) == ["a"]
    assert found["a"][1] is None


def test_the_profiler_s_kernels_are_found_again_in_the_groups_of_either_graph(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    int8 = models.make("int8", source, _X, repair=False).artifact
    graph = onnx.load(prepare(source, tmp_path))
    groups = quantizer_groups(graph, select_static(graph))
    requests = [{"x": _X["x"][:1]}]
    times = group_times(
        groups,
        graph.graph,
        tmp_path / "prepared.onnx",
        int8,
        requests,
        tmp_path,
        engine=ENGINE,
        intra_op_threads=1,
    )
    assert times.keys() == {group.name for group in groups}
    assert all(fp32 > 0.0 and integer > 0.0 for fp32, integer in times.values())
