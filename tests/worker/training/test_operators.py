"""Each operator against onnxruntime, in each opset at which its form changed."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, cycle, islice
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from app.contracts.operators import TRAINABLE_OPERATORS
from tests.servers import WITHOUT_TORCH
from tests.worker.training.cases import BY_OPERATOR
from tests.worker.training.cases.case import Case

torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)

from worker.training.onnx_to_torch import OnnxModule, tensors  # noqa: E402
from worker.training.ops import OPERATORS  # noqa: E402


def _expected(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers: list[NDArray[Any]] = session.run(None, dict(feeds))
    return answers


def _check(case: Case, opset: int, divisions: Iterable[frozenset[int]]) -> None:
    expected = _expected(case.model(opset), case.feeds())
    for constant in divisions:
        module = OnnxModule(case.model(opset, constant=constant))
        computed = [value.detach().numpy() for value in module(tensors(case.feeds(constant=constant)))]
        assert [value.dtype for value in computed] == [value.dtype for value in expected]
        for ours, theirs in zip(computed, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("operator", BY_OPERATOR)
def test_it_computes_what_onnxruntime_computes(operator: str, subtests: pytest.Subtests) -> None:
    """In each opset, with one division of the inputs into initializers and others for each: all divisions in turn."""
    for place, case in enumerate(case for case in BY_OPERATOR[operator] if not case.is_extra):
        for opset, constant in zip(case.opsets, _turns(case.divisions(), place), strict=False):
            with subtests.test(f"{case}-{opset}", constant=constant):
                _check(case, opset, [constant])


def _turns(divisions: list[frozenset[int]], first: int) -> Iterator[frozenset[int]]:
    return islice(cycle(divisions), first % len(divisions), None)


@pytest.mark.slow
@pytest.mark.parametrize("operator", BY_OPERATOR)
def test_it_computes_what_onnxruntime_computes_however_its_inputs_are_given(
    operator: str, subtests: pytest.Subtests
) -> None:
    """Every case in each opset with each division, which is three times as much, and every combination of Resize."""
    for case in BY_OPERATOR[operator]:
        for opset in case.opsets:
            with subtests.test(f"{case}-{opset}"):
                _check(case, opset, case.divisions())


def test_the_quick_cases_of_resize_combine_every_two_values() -> None:
    def pairs(cases: Iterable[Case]) -> set[tuple[str, ...]]:
        return {pair for case in cases for pair in combinations(case.label.split(", "), 2)}

    cases = BY_OPERATOR["Resize"]
    assert pairs(case for case in cases if not case.is_extra) == pairs(cases)


def test_the_names_known_without_torch_are_those_of_the_table() -> None:
    assert OPERATORS.keys() == TRAINABLE_OPERATORS


def test_every_operator_of_the_table_has_a_case() -> None:
    assert BY_OPERATOR.keys() == OPERATORS.keys()
