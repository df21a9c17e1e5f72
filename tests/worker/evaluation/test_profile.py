"""What a slower variant spends its time on."""

from pathlib import Path

from tests.worker import models
from tests.worker.models import ENGINE
from worker.evaluation.profile import OperatorTime, compare_operators, in_words


def test_integer_kernels_are_set_against_what_they_replace(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(32, 3, 8, 8)
    made = models.make("int8", source, {"x": x}, calibrate=32)
    before = {path.name for path in tmp_path.iterdir()}
    times = compare_operators(
        source, made.artifact, [{"x": x[:1]}, {"x": x[1:2]}], tmp_path, engine=ENGINE, intra_op_threads=1
    )
    assert {path.name for path in tmp_path.iterdir()} == before
    found = {one.operator: one for one in times}
    assert found["Conv"].original_ms > 0.0
    assert found["Conv"].variant_ms > 0.0
    assert found["QuantizeLinear"].original_ms == 0.0
    assert not any(name.startswith("QLinear") for name in found)
    assert times == sorted(times, key=lambda one: -one.more_ms)


def test_only_what_costs_more_is_mentioned() -> None:
    times = [OperatorTime("Add", 0.1, 0.4), OperatorTime("Mul", 0.0, 0.05), OperatorTime("Conv", 2.0, 1.0)]
    assert in_words(times) == "Add +0.300 ms, Mul +0.050 ms"
