"""Mixed precision, on models of which one layer does not bear integers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from app.errors import Invalid
from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run

pytestmark = pytest.mark.e2e

_PLAIN = {"repair": False, "calibration": "minmax", "per_channel": False}


def _fragile() -> onnx.ModelProto:
    """Three convolutions; weights of `fragile` span four decades, and `after` makes up for that."""
    decades = np.logspace(-3.5, 0.5, 8).astype(np.float32)
    weights = {
        "w1": models.normal(8, 3, 3, 3, seed=1, scale=0.3),
        "w2": models.normal(8, 8, 3, 3, seed=2, scale=0.2) * decades[:, None, None, None],
        "w3": models.normal(16, 8, 3, 3, seed=3, scale=0.2) / decades[None, :, None, None],
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "fragile", pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], "after", pads=[1] * 4),
        helper.make_node("Relu", ["c3"], ["y"], "relu3"),
    ]
    return models.model(nodes, {"x": ["n", 3, 16, 16]}, {"y": ["n", 16, 16, 16]}, weights)


_X = models.normal(96, 3, 16, 16)


def _precision(sections: Mapping[str, Any]) -> dict[str, str]:
    return {row["layer"]: row["precision"] for row in sections["precision"]}


def test_the_layer_that_does_harm_stays_in_fp32_and_the_others_do_not(tmp_path: Path) -> None:
    source = models.write(_fragile(), tmp_path)
    plain = models.make("int8", source, {"x": _X}, calibrate=64, **_PLAIN)
    expected = run(source, {"x": _X})[0]
    assert cosine(expected, run(plain.artifact, {"x": _X})[0]) < 0.8
    made = models.make("mixed", source, {"x": _X}, calibrate=64, max_accuracy_drop=0.03, **_PLAIN)
    assert cosine(expected, run(made.artifact, {"x": _X})[0]) > 0.97
    precision = _precision(made.sections)
    assert "fp32" in {precision["fragile"], precision["after"]}
    assert "int8" in precision.values()
    # What the report says is what the artifact does.
    assert executed_operators(made.artifact)["QLinearConv"] == sum(
        precision[name] == "int8" for name in ("first", "fragile", "after")
    )
    assert all(row["why"] for row in made.sections["precision"])


def test_named_nodes_stay_in_fp32(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    made = models.make("mixed", source, {"x": models.normal(64, 3, 8, 8)}, keep_fp32=["conv1"], max_seconds=5.0)
    row = made.sections["precision"][0]
    assert (row["layer"], row["precision"], row["why"]) == ("conv1", "fp32", "asked for by keep_fp32")
    assert all("conv1" in point.kept for point in made.points)


def test_a_name_that_no_node_has_is_refused_with_some_that_do(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    with pytest.raises(Invalid, match=r"no node 'convolution_7'.*'conv1'"):
        models.make("mixed", source, {"x": models.normal(64, 3, 8, 8)}, keep_fp32=["convolution_7"])


def test_to_keep_every_layer_in_fp32_is_refused(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    with pytest.raises(Invalid, match="nothing is left to be made integer"):
        models.make("mixed", source, {"x": models.normal(64, 3, 8, 8)}, keep_fp32=["conv1", "conv2", "gemm"])


def test_the_search_ends_with_something_when_there_is_no_time(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(64, 3, 8, 8)
    made = models.make("mixed", source, {"x": x}, max_seconds=0.001)
    assert made.sections["search"]["trials"] == 1
    assert sum(point.chosen for point in made.points) == 1
    assert cosine(run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]) > 0.9


def test_any_point_can_be_made_without_a_search(tmp_path: Path) -> None:
    source = models.write(_fragile(), tmp_path)
    found = models.make("mixed", source, {"x": _X}, calibrate=64, max_accuracy_drop=0.0, max_seconds=20.0, **_PLAIN)
    point = max(found.points, key=lambda point: len(point.kept))
    folder = tmp_path / "point"
    folder.mkdir()
    trials: list[Any] = []
    made = models.make(
        "mixed",
        models.write(_fragile(), folder),
        {"x": _X},
        calibrate=64,
        point=tuple(point.kept),
        progress=lambda stage, share, detail=None: trials.append(stage) if stage == "search" else None,
        **_PLAIN,
    )
    assert not trials
    assert made.artifact.stat().st_size == point.size_bytes
    kept = {row["layer"] for row in made.sections["precision"] if row["precision"] == "fp32"}
    assert kept == set(point.kept)


def test_half_precision_halves_what_stays_out_of_int8_and_changes_little(tmp_path: Path) -> None:
    wide = models.model(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"], "up"),
            helper.make_node("Softmax", ["h"], ["s"], "softmax"),
            helper.make_node("MatMul", ["s", "w2"], ["y"], "down"),
        ],
        {"x": ["n", 64]},
        {"y": ["n", 64]},
        {"w1": models.normal(64, 256, seed=1, scale=0.2), "w2": models.normal(256, 64, seed=2)},
    )
    x = models.normal(64, 64)
    artifacts: dict[str, tuple[int, NDArray[Any]]] = {}
    for precision in ("fp32", "fp16"):
        folder = tmp_path / precision
        folder.mkdir()
        source = models.write(wide, folder)
        made = models.make(
            "mixed", source, {"x": x}, keep_fp32=["up"], high_precision=precision, max_seconds=3.0, calibrate=32
        )
        assert _precision(made.sections)["up"] == {"fp32": "fp32", "fp16": "fp16 storage"}[precision]
        artifacts[precision] = (made.artifact.stat().st_size, run(made.artifact, {"x": x})[0])
    # 64 · 256 weights of two bytes less.
    assert artifacts["fp32"][0] - artifacts["fp16"][0] == pytest.approx(2 * 64 * 256, rel=0.05)
    assert cosine(artifacts["fp32"][1], artifacts["fp16"][1]) > 0.9999


def test_progress_tells_of_layers_trials_and_the_best_so_far(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    told: list[tuple[str, float, Mapping[str, Any] | None]] = []
    models.make(
        "mixed",
        source,
        {"x": models.normal(64, 3, 8, 8)},
        max_seconds=5.0,
        progress=lambda stage, share, detail=None: told.append((stage, share, detail)),
    )
    shares = [share for stage, share, _ in told if stage == "search"]
    assert shares == sorted(shares)
    details = [detail for stage, _, detail in told if stage == "search" and detail]
    assert details[0]["text"] == "sensitivity of layer 1 of 3"
    assert details[-1]["trials"] >= 1
    assert "best" in details[-1]["text"]


def test_labels_make_the_accuracy_of_every_point_known(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(64, 3, 8, 8)
    labels = run(source, {"x": x})[0].argmax(axis=1).astype(np.int64)
    made = models.make("mixed", source, {"x": x}, labels=labels, max_seconds=5.0)
    assert all(point.accuracy is not None and point.accuracy > 0.5 for point in made.points)
    # The labels are the original's own answers: no layer alone can gain.
    assert all(-0.5 < row["accuracy_change"] <= 0.0 for row in made.sections["precision"])


def test_nothing_is_left_beside_the_artifact(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    models.make("mixed", source, {"x": models.normal(64, 3, 8, 8)}, max_seconds=5.0)
    assert not [path.name for path in tmp_path.iterdir() if "trial" in path.name or path.is_dir()]
