"""Quantization-aware training of small models, from their ONNX form and back to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from app.errors import JobFailed, NotQuantizable
from tests.servers import WITHOUT_TORCH
from tests.worker import models
from tests.worker.runtime import executed_operators, run

pytestmark = pytest.mark.e2e

pytest.importorskip("torch", reason=WITHOUT_TORCH)

_X = models.normal(160, 3, 8, 8)
_COARSE = {"activation_bits": 4, "repair": False, "calibration": "minmax", "batch_size": 16, "learning_rate": 2e-3}


def _error(source: Path, artifact: Path, feeds: Mapping[str, Any]) -> float:
    return float(np.square(run(source, feeds)[0] - run(artifact, feeds)[0]).mean())


def test_training_brings_coarse_int8_closer_to_the_original_on_samples_it_never_saw(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    fresh = {"x": models.normal(200, 3, 8, 8, seed=77)}
    plain = models.make("int8", source, {"x": _X}, calibrate=64, **{key: _COARSE[key] for key in list(_COARSE)[:3]})
    before = _error(source, plain.artifact, fresh)
    nodes = [(node.name, node.op_type) for node in onnx.load(plain.artifact).graph.node]
    size = plain.artifact.stat().st_size
    operators = executed_operators(plain.artifact)
    made = models.make("qat", source, {"x": _X}, calibrate=64, epochs=10, **_COARSE)
    assert _error(source, made.artifact, fresh) < 0.8 * before
    # The same graph but for its constants: what it weighs and how fast it is does not change.
    assert [(node.name, node.op_type) for node in onnx.load(made.artifact).graph.node] == nodes
    assert executed_operators(made.artifact) == operators
    assert made.artifact.stat().st_size == pytest.approx(size, rel=0.01)
    training = made.sections["training"]
    assert training["kept"]
    assert training["agrees_with_trained_model"] >= 0.98
    assert training["loss_after"] < training["loss_before"]
    assert [row["epoch"] for row in made.sections["epochs"]] == list(range(len(made.sections["epochs"])))


def test_it_is_never_worse_than_the_int8_it_began_with_and_says_when_that_is_it(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    plain = models.make("int8", source, {"x": _X}, calibrate=64)
    expected = plain.artifact.read_bytes()
    made = models.make("qat", source, {"x": _X}, calibrate=64, epochs=1, learning_rate=1.0)
    assert made.artifact.read_bytes() == expected
    assert not made.sections["training"]["kept"]
    assert any("training did not help" in note for note in made.notes)


def test_what_no_epoch_made_better_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.training.session import Session

    # What was not trained is no better, though the artifact made of it may round otherwise than the first, and luckily.
    losses = iter([1.0, 2.0])
    monkeypatch.setattr(Session, "validation_loss", lambda *_: next(losses))
    source = models.write(models.classifier(), tmp_path)
    plain = models.make("int8", source, {"x": _X}, calibrate=64)
    expected = plain.artifact.read_bytes()
    made = models.make("qat", source, {"x": _X}, calibrate=64, epochs=1, learning_rate=1.0)
    assert made.sections["training"]["best_epoch"] == 0
    assert not made.sections["training"]["kept"]
    assert any("training did not help" in note for note in made.notes)
    assert made.artifact.read_bytes() == expected


def test_embeddings_of_tokens_train_towards_the_original_without_labels(tmp_path: Path) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    arrays = models.token_arrays(160)
    made = models.make("qat", source, arrays, calibrate=64, epochs=3, **_COARSE)
    training = made.sections["training"]
    assert training["loss_after"] <= training["loss_before"]
    assert training["agrees_with_trained_model"] > 0.995


@pytest.mark.parametrize("cpu", [models.VNNI, models.NO_VNNI, models.ARM])
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_artifact_answers_as_the_trained_model_whatever_the_integers(
    tmp_path: Path, cpu: models.Cpu, per_channel: bool
) -> None:
    source = models.write(models.classifier(), tmp_path)
    options = _COARSE | {"activation_bits": 6, "per_channel": per_channel, "learning_rate": 1e-3}
    made = models.make("qat", source, {"x": _X}, calibrate=64, epochs=2, cpu=cpu, **options)
    # One of 160, as a value between two integers may go either way.
    assert made.sections["training"]["agrees_with_trained_model"] > 0.99


def test_a_clip_moves_with_the_scale_in_training_as_it_does_in_the_artifact(tmp_path: Path) -> None:
    model = models.classifier()
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Clip"
            node.input.extend(["zero", "six"])
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0.0), ("six", 0.5))
    )
    source = models.write(model, tmp_path)
    options = _COARSE | {"activation_bits": 6, "learning_rate": 1e-2}
    made = models.make("qat", source, {"x": _X}, calibrate=64, epochs=4, **options)
    assert made.sections["training"]["agrees_with_trained_model"] > 0.98


def test_a_fixed_batch_trains(tmp_path: Path) -> None:
    source = models.write(models.classifier(8), tmp_path)
    made = models.make("qat", source, {"x": _X}, calibrate=64, epochs=2, **_COARSE)
    assert made.sections["training"]["loss_after"] <= made.sections["training"]["loss_before"]


def test_two_samples_are_enough_to_end(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    made = models.make("qat", source, {"x": _X[:2]}, calibrate=2, epochs=1)
    assert made.sections["training"]["samples"] == made.sections["training"]["validation_samples"] == 1


def test_an_operator_that_cannot_be_trained_is_named_with_its_node(tmp_path: Path) -> None:
    model = models.classifier()
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(onnx.helper.make_node("Hardmax", ["raw"], ["scores"], "dice"))
    source = models.write(model, tmp_path)
    with pytest.raises(NotQuantizable, match="node 'dice' is of the operator Hardmax"):
        models.make("qat", source, {"x": _X}, calibrate=64, epochs=1)


def test_without_torch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "worker.training.session", None)
    source = models.write(models.classifier(), tmp_path)
    with pytest.raises(JobFailed, match=r"octet\[qat\]"):
        models.make("qat", source, {"x": _X}, calibrate=64)


def test_progress_tells_of_epochs_loss_and_time(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    details: list[Mapping[str, Any]] = []
    models.make(
        "qat",
        source,
        {"x": _X},
        calibrate=64,
        epochs=2,
        progress=lambda stage, share, detail=None: details.append(detail) if stage == "train" and detail else None,
    )
    assert {detail["epoch"] for detail in details} == {1, 2}
    assert details[-1]["text"].startswith("epoch 2 of 2 · loss ")
    assert details[-1]["text"].endswith(" left")
