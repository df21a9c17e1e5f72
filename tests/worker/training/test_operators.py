"""Each operator against onnxruntime, in each opset at which its form changed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from app.contracts.operators import TRAINABLE_OPERATORS
from tests.worker.training.cases import CASES
from tests.worker.training.cases.case import Case

torch = pytest.importorskip("torch")

from worker.training.onnx_to_torch import OnnxModule, tensors  # noqa: E402
from worker.training.ops import OPERATORS  # noqa: E402

_USES = [pytest.param(case, opset, id=f"{case}-{opset}") for case in CASES for opset in case.opsets]


def _expected(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers: list[NDArray[Any]] = session.run(None, dict(feeds))
    return answers


@pytest.mark.parametrize(("case", "opset"), _USES)
def test_it_computes_what_onnxruntime_computes(case: Case, opset: int) -> None:
    expected = _expected(case.model(opset), case.feeds())
    everything = range(len(case.inputs))
    for constant in (case.constant, frozenset(), frozenset(everything)):
        module = OnnxModule(case.model(opset, constant=constant))
        computed = [value.detach().numpy() for value in module(tensors(case.feeds(constant=constant)))]
        assert [value.dtype for value in computed] == [value.dtype for value in expected]
        for ours, theirs in zip(computed, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_the_names_known_without_torch_are_those_of_the_table() -> None:
    assert OPERATORS.keys() == TRAINABLE_OPERATORS


def test_every_operator_of_the_table_has_a_case() -> None:
    assert {case.operator for case in CASES} == OPERATORS.keys()
