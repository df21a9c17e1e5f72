"""Weight-only INT4: a fraction of the size, and rows that depend on nothing but themselves."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from app.errors import Invalid, NotQuantizable
from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run
from worker.evaluation.fidelity import sqnr_db


def _products(folder: Path) -> Path:
    """x (n, 5, 96) → MatMul, Relu, MatMul → y (n, 5, 64); inputs that go together."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "up"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "down"),
    ]
    weights = {"w": models.normal(96, 128, scale=0.1), "v": models.normal(128, 64, seed=1, scale=0.1)}
    return models.write(models.model(nodes, {"x": ["n", 5, 96]}, {"y": None}, weights), folder)


def _x(samples: int = 64) -> np.ndarray:
    mixed = models.normal(samples * 5, 8, seed=2) @ models.normal(8, 96, seed=3)
    return (mixed + 0.1 * models.normal(samples * 5, 96, seed=4)).reshape(samples, 5, 96)


def test_an_encoder_of_token_ids_is_stored_in_blocks(tmp_path: Path) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    arrays = models.token_arrays(16)
    made = models.make("int4", source)
    operators = executed_operators(made.artifact)
    assert operators["MatMulNBits"] == 2
    assert operators["MatMul"] == 0
    assert made.facts["algorithm"] == "hqq"
    assert cosine(run(source, arrays)[0], run(made.artifact, arrays)[0]) > 0.98


def test_four_bits_are_an_eighth_and_eight_a_quarter(tmp_path: Path) -> None:
    source = _products(tmp_path)
    whole = source.stat().st_size
    assert models.make("int4", source).artifact.stat().st_size < 0.2 * whole
    assert models.make("int4", source, bits=8).artifact.stat().st_size < 0.33 * whole


def test_with_samples_the_least_noisy_way_is_kept_and_said(tmp_path: Path) -> None:
    source, x = _products(tmp_path), _x()
    made = models.make("int4", source, {"x": x}, calibrate=48)
    plain = models.make("int4", source, {"x": x}, calibrate=48, algorithm="rtn")
    expected, plain_answer = run(source, {"x": x[48:]})[0], run(plain.artifact, {"x": x[48:]})[0]
    made = models.make("int4", source, {"x": x}, calibrate=48)
    assert made.facts["algorithm"] == "gptq"
    assert [step["repair"] for step in made.facts["repairs"]] == ["hqq", "gptq"]
    assert sqnr_db(expected, run(made.artifact, {"x": x[48:]})[0]) > sqnr_db(expected, plain_answer) + 1.0


@pytest.mark.parametrize("algorithm", ["rtn", "hqq", "gptq"])
@pytest.mark.parametrize("block_size", [16, 256])
def test_each_algorithm_answers_like_the_original(tmp_path: Path, algorithm: str, block_size: int) -> None:
    source, x = _products(tmp_path), _x()
    made = models.make("int4", source, {"x": x}, calibrate=48, algorithm=algorithm, block_size=block_size)
    assert made.facts["algorithm"] == algorithm
    assert cosine(run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]) > 0.97


def test_a_row_alone_gets_the_answer_it_gets_in_a_batch(tmp_path: Path) -> None:
    source, x = _products(tmp_path), _x()
    made = models.make("int4", source)
    together = run(made.artifact, {"x": x})[0]
    np.testing.assert_allclose(run(made.artifact, {"x": x[:1]})[0], together[:1], rtol=1e-4, atol=1e-5)


def test_a_gemm_is_a_product_too(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "b", "c"], ["y"], "gemm", transB=1)
    weights = {"b": models.normal(16, 64), "c": models.normal(16, seed=1)}
    source = models.write(models.model([node], {"x": ["n", 64]}, {"y": ["n", 16]}, weights), tmp_path)
    x = models.normal(8, 64, seed=2)
    made = models.make("int4", source, bits=8)
    np.testing.assert_allclose(run(made.artifact, {"x": x})[0], run(source, {"x": x})[0], atol=0.3)


def test_gptq_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="needs a dataset"):
        models.make("int4", _products(tmp_path), algorithm="gptq")


def test_a_model_without_constant_products_is_refused(tmp_path: Path) -> None:
    proto = models.model(
        [helper.make_node("MatMul", ["x", "z"], ["y"], "m")], {"x": [4, 4], "z": [4, 4]}, {"y": [4, 4]}
    )
    with pytest.raises(NotQuantizable, match="weight is not constant"):
        models.make("int4", models.write(proto, tmp_path))
