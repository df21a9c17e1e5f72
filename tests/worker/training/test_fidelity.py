"""Is what is trained what is served?"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from app.errors import JobFailed
from tests.servers import WITHOUT_TORCH
from tests.worker import models
from tests.worker.models import ENGINE

torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)

from worker.graph.prepare import prepare  # noqa: E402
from worker.training import ops  # noqa: E402
from worker.training.fidelity import check_fidelity, first_difference, relative_error  # noqa: E402
from worker.training.onnx_to_torch import OnnxModule  # noqa: E402

_EXAMPLES = Path(__file__).parents[3] / "examples"
_MODELS = Path(__file__).parents[4] / "shared" / "models"
_FEEDS = {"x": models.normal(4, 3, 8, 8, seed=9)}


def test_a_module_that_is_true_passes(tmp_path: Path) -> None:
    path = prepare(models.write(models.classifier(), tmp_path), tmp_path)
    assert check_fidelity(path, OnnxModule(onnx.load(path)), [_FEEDS, _FEEDS], engine=ENGINE, threads=1) < 1e-5
    assert first_difference(path, _FEEDS, engine=ENGINE, threads=1) is None


def test_a_planted_wrong_operator_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearly(x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        return x.mean((2, 3), keepdim=True) * 1.001

    path = models.write(models.classifier(), tmp_path)
    monkeypatch.setitem(ops.OPERATORS, "GlobalAveragePool", nearly)
    with pytest.raises(JobFailed, match=r"first to depart is node 'pool' \(GlobalAveragePool\), by 0.001 in 'pooled'"):
        check_fidelity(path, OnnxModule(onnx.load(path)), [_FEEDS], engine=ENGINE, threads=1)
    found = first_difference(path, _FEEDS, engine=ENGINE, threads=1)
    assert found is not None
    assert (found.operator, found.node, found.tensor) == ("GlobalAveragePool", "pool", "pooled")
    assert found.relative_error == pytest.approx(1e-3, rel=0.01)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_wrong_integer_is_found_where_it_arises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], "zeros"),
        helper.make_node("Add", ["x", "zeros"], ["y"], "add"),
    ]
    path = models.write(models.model(nodes, {"x": ["n", 2]}, {"y": ["n", 2]}), tmp_path)

    def one_more(x: torch.Tensor) -> torch.Tensor:  # type: ignore[name-defined]
        return torch.tensor([*x.shape[:-1], 1])

    monkeypatch.setitem(ops.OPERATORS, "Shape", one_more)
    found = first_difference(path, {"x": models.normal(3, 2)}, engine=ENGINE, threads=1)
    assert found is not None
    assert found.node == "shape"
    assert found.relative_error == float("inf")


def test_a_changed_weight_departs_without_a_node_to_blame(tmp_path: Path) -> None:
    path = models.write(models.classifier(), tmp_path)
    module = OnnxModule(onnx.load(path))
    with torch.no_grad():
        module.parameter("fb").add_(1.0)
    with pytest.raises(JobFailed, match="output 'scores'"):
        check_fidelity(path, module, [_FEEDS], engine=ENGINE, threads=1)


@pytest.mark.parametrize(
    ("computed", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([3.0, 4.4], [3.0, 4.0], 0.08),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.inf, 1.0], [1.0, 1.0], np.inf),
        ([np.nan, 1.0], [1.0, 1.0], np.inf),
        ([1.0, 1.0], [np.inf, 1.0], np.inf),
        ([-3.4e38, 1.0], [-3.4e38, 1.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1e-9, 0.0], [0.0, 0.0], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
    ],
)
def test_the_relative_error(computed: list[float], expected: list[float], error: float) -> None:
    left, right = np.array(computed, np.float32), np.array(expected, np.float32)
    assert relative_error(left, right) == pytest.approx(error)


def test_integers_are_equal_or_wrong() -> None:
    assert relative_error(np.array([1, 2]), np.array([1, 2])) == 0
    assert relative_error(np.array([1, 3]), np.array([1, 2])) == float("inf")
    assert relative_error(np.array([1, 2], np.int32), np.array([1, 2])) == float("inf")


def test_the_example_that_ships(tmp_path: Path) -> None:
    source = _EXAMPLES / "resnet20.onnx"
    with np.load(_EXAMPLES / "cifar10_512.npz") as arrays:
        batches = [{"input": arrays["input"][:8]}]
    path = prepare(source, tmp_path)
    assert check_fidelity(path, OnnxModule(onnx.load(path)), batches, engine=ENGINE, threads=1) < 1e-5


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_mobilenetv2", "cifar10_mobilenetv3", "minilm"])
def test_real_models(tmp_path: Path, name: str) -> None:
    source = _MODELS / f"{name}.onnx"
    if not source.exists():
        pytest.skip(f"a real model is missing: put it at {source}")
    with np.load(_MODELS / ("stsb_dev.npz" if name == "minilm" else "cifar10_2000.npz")) as arrays:
        inputs = [argument.name for argument in onnx.load(source, load_external_data=False).graph.input]
        batches = [{each: arrays[each][start : start + size] for each in inputs} for start, size in ((0, 8), (8, 3))]
    for path in (source, prepare(source, tmp_path)):
        assert check_fidelity(path, OnnxModule(onnx.load(path)), batches, engine=ENGINE, threads=1) < 1e-5
