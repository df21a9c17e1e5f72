"""A variant that cannot stand in for its original does not get through."""

from pathlib import Path

import numpy as np
import pytest

from app.engines import TensorSpec
from app.errors import Invalid, JobFailed
from tests.worker.evaluation.fakes import Array, FakeModel
from tests.worker.models import ENGINE
from worker.evaluation import gate

_REQUEST = {"x": np.ones((1, 4), np.float32)}


def _original() -> FakeModel:
    return FakeModel(lambda x: [x])


def test_one_that_answers_alike_passes() -> None:
    gate.check(_original(), FakeModel(lambda x: [x + 0.1]), _REQUEST)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_no_number_does_not(bad: float) -> None:
    with pytest.raises(JobFailed, match=r"'y' of the variant is NaN or infinite"):
        gate.check(_original(), FakeModel(lambda x: [np.where(x == 1, bad, x).astype(np.float32)]), _REQUEST)


def test_the_originals_own_infinities_are_allowed() -> None:
    infinite = FakeModel(lambda x: [x * np.float32(np.inf)])
    gate.check(infinite, FakeModel(lambda x: [x * np.float32(np.inf)]), _REQUEST)


@pytest.mark.parametrize(
    "answer", [lambda x: [x[:, :3]], lambda x: [x.astype(np.float64)], lambda x: [x[0]]], ids=["shape", "type", "rank"]
)
def test_another_shape_or_type_does_not(answer: object) -> None:
    with pytest.raises(JobFailed, match="output 'y' of the variant is"):
        gate.check(_original(), FakeModel(answer), _REQUEST)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spec",
    [TensorSpec("z", "FP32", (-1, 4)), TensorSpec("y", "FP16", (-1, 4)), TensorSpec("y", "FP32", (-1, 5))],
)
def test_another_interface_does_not(spec: TensorSpec) -> None:
    with pytest.raises(JobFailed, match="the outputs of the variant are"):
        gate.check(_original(), FakeModel(lambda x: [x], [spec]), _REQUEST)


def test_a_dynamic_input_that_became_fixed_does_not() -> None:
    variant = FakeModel(lambda x: [x])
    variant.inputs = (TensorSpec("x", "FP32", (1, 4)),)
    with pytest.raises(JobFailed, match="the inputs of the variant are"):
        gate.check(_original(), variant, _REQUEST)


def test_an_output_of_which_more_is_known_passes() -> None:
    gate.check(_original(), FakeModel(lambda x: [x], [TensorSpec("y", "FP32", (1, 4))]), _REQUEST)


def test_a_refusal_is_given_with_its_reason() -> None:
    def refuse(x: Array) -> list[Array]:
        raise Invalid("too wide")

    with pytest.raises(JobFailed, match="refuses what the original answers: too wide"):
        gate.check(_original(), FakeModel(refuse), _REQUEST)


def test_an_artifact_that_does_not_load_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "variant.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(JobFailed, match="made but does not load"):
        gate.load_variant(broken, engine=ENGINE, intra_op_threads=1)
