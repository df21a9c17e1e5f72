"""Whether a row's answer depends on its batch-mates."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from app import engines
from app.engines import LoadedModel
from tests.worker import models
from worker.evaluation.invariance import check_invariance, invariance_rows, varied


def _load(path: Path) -> LoadedModel:
    return engines.get("onnxruntime").load(path, intra_op_threads=1)


def _x(samples: int = 8) -> dict[str, np.ndarray]:
    loudness = np.linspace(0.2, 4.0, samples, dtype=np.float32).reshape(-1, 1, 1, 1)
    return {"x": models.normal(samples, 3, 8, 8, seed=5) * loudness}


def test_static_int8_answers_a_row_the_same_in_any_batch(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    made = models.make("int8", source, {"x": models.normal(64, 3, 8, 8, seed=2) * 2}, calibrate=64)
    assert check_invariance(_load(source), _load(made.artifact), _x()).batchable is True


@pytest.mark.parametrize("method", ["fp16", "int4"])
def test_weights_alone_in_fewer_bits_do_not_tie_rows_together(tmp_path: Path, method: str) -> None:
    source = models.write(models.classifier(), tmp_path)
    assert check_invariance(_load(source), _load(models.make(method, source).artifact), _x()).batchable is True


def test_dynamic_int8_takes_its_scale_from_the_whole_batch(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    found = check_invariance(_load(source), _load(models.make("dynamic", source).artifact), _x())
    assert found.batchable is False
    assert found.note is not None
    assert "batch" in found.note


def test_a_sum_over_the_batch_is_found_out(tmp_path: Path) -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=1)
    model = _load(models.write(models.model([node], {"x": ["n", 4]}, {"y": [1, 4]}), tmp_path))
    found = check_invariance(model, model, {"x": models.normal(4, 4)})
    assert found.batchable is False


def test_class_numbers_must_be_the_same(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], axes=[0, 1], keepdims=1),
        helper.make_node("Sub", ["x", "top"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.INT64),
    ]
    model = models.model(nodes, {"x": ["n", 2]}, {})
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 2]))
    loaded = _load(models.write(model, tmp_path))
    assert check_invariance(loaded, loaded, {"x": np.array([[1, 2], [30, 4]], np.float32)}).batchable is False


def test_one_sample_or_the_same_again_tells_nothing(tmp_path: Path) -> None:
    model = _load(models.write(models.classifier(), tmp_path))
    for rows in (_x(1), {"x": np.repeat(_x(1)["x"], 4, axis=0)}):
        found = check_invariance(model, model, rows)
        assert found.batchable is None
        assert found.note is not None


def test_without_samples_rows_are_made_up(tmp_path: Path) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    request = {name: values[:1] * 0 for name, values in models.token_arrays(1).items()}
    rows = invariance_rows(varied(_load(source), request, seed=0))
    assert {name: values.shape for name, values in rows.items()} == {"ids": (8, 6), "mask": (8, 6)}
    assert rows["ids"].max() == 1
    assert not rows["ids"][0].any()


def test_rows_of_other_lengths_are_left_out() -> None:
    rows = invariance_rows([{"x": np.zeros((1, 3))}, {"x": np.zeros((1, 4))}, {"x": np.ones((1, 3))}])
    assert rows["x"].tolist() == [[0, 0, 0], [1, 1, 1]]
