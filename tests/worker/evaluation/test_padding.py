"""Whether zeros behind a sequence change its answer, and what has a sequence at all."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app import engines
from app.engines import LoadedModel
from app.engines.cpu import this_cpu
from tests import graphs
from tests.worker import models
from worker.evaluation.padding import Padding, _longer, _shorter, check_padding, made_up_sequences, sequence_inputs
from worker.samples import Feeds

BOTH = {"ids": 1, "mask": 1}


def _load(path: Path) -> LoadedModel:
    return engines.get("onnxruntime").load(path, intra_op_threads=1)


def _rows(*lengths: int, width: int = 16) -> list[Feeds]:
    """One request a length, all padded to `width`."""
    random = np.random.default_rng(3)
    rows = []
    for length in lengths:
        mask = (np.arange(width) < length).astype(np.int64)[None]
        rows.append({"ids": random.integers(1, 50, (1, width)) * mask, "mask": mask})
    return rows


def _checked(proto: onnx.ModelProto, folder: Path, rows: list[Feeds] | None = None) -> Padding:
    path = models.write(proto, folder)
    model = _load(path)
    return check_padding(model, model, sequence_inputs(path), rows or _rows(9, 16, 5, 3))


def test_a_mask_that_is_heeded_makes_padding_harmless(tmp_path: Path) -> None:
    found = _checked(graphs.masked_attention(), tmp_path)
    assert found.axes is not None
    assert (found.axes.inputs, found.axes.outputs, found.note) == (BOTH, {}, None)


def test_outputs_that_follow_the_sequence_are_compared_where_it_is(tmp_path: Path) -> None:
    found = _checked(graphs.masked_attention(output="tokens"), tmp_path)
    assert found.axes is not None
    assert (found.axes.inputs, found.axes.outputs) == (BOTH, {"tokens": 1})


@pytest.mark.parametrize("proto", [graphs.masked_attention(output="plain mean"), graphs.two_token_inputs()])
def test_a_mean_that_counts_padding_is_found_out(tmp_path: Path, proto: onnx.ModelProto) -> None:
    found = _checked(proto, tmp_path)
    assert found.axes is None
    assert found.note is not None
    assert "changes its answer" in found.note


def test_rows_that_come_padded_are_cut_first(tmp_path: Path) -> None:
    """Else what padding does would be done to both that are compared."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["tokens"]),
        helper.make_node("ReduceMax", ["tokens"], ["y"], axes=[1], keepdims=0),
    ]
    ids = {"ids": (TensorProto.INT64, ["n", "length"])}
    proto = models.model(nodes, ids, {"y": ["n", 16]}, {"table": models.normal(50, 16)})
    rows = [{"ids": row["ids"]} for row in _rows(1, 2, 1, 2)]
    assert _checked(proto, tmp_path, rows).axes is None


def test_padding_alone_tells_nothing(tmp_path: Path) -> None:
    found = _checked(graphs.masked_attention(), tmp_path, _rows(0, 0))
    assert found.axes is None
    assert found.note is not None
    assert "not known" in found.note


def test_an_output_that_follows_the_sequence_twice_is_not_cut(tmp_path: Path) -> None:
    found = _checked(graphs.masked_attention(output="attention"), tmp_path)
    assert found.axes is None
    assert found.note is not None
    assert "'attention'" in found.note


def test_a_model_that_takes_some_lengths_only_is_not_padded(tmp_path: Path) -> None:
    shape = np.array([0, -1, 4], np.int64)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["fours"]),
        helper.make_node("ReduceMax", ["fours"], ["y"], axes=[1, 2], keepdims=0),
    ]
    proto = models.model(nodes, {"x": ["n", "length"]}, {"y": ["n"]}, {"shape": shape})
    found = _checked(proto, tmp_path, [{"x": models.normal(1, 16)}])
    assert found.axes is None
    assert found.note is not None
    assert "every length" in found.note


@pytest.mark.parametrize("method", ["int8", "fp16", "int4"])
def test_fixed_ranges_do_not_move_with_the_padding(tmp_path: Path, method: str) -> None:
    source = models.write(models.token_encoder(), tmp_path)
    arrays = models.token_arrays(64, 12)
    rows = [{name: values[[row]] for name, values in arrays.items()} for row in range(8)]
    variant = _load(models.make(method, source, arrays).artifact)
    assert check_padding(_load(source), variant, sequence_inputs(source), rows).axes is not None


def test_dynamic_int8_takes_its_scale_from_padding_too(tmp_path: Path) -> None:
    """The first token's embedding is larger than any other's."""
    proto = models.token_encoder()
    table = next(weight for weight in proto.graph.initializer if weight.name == "table")
    values = numpy_helper.to_array(table) * np.where(np.arange(300) == 0, 50, 1)[:, None].astype(np.float32)
    table.CopyFrom(numpy_helper.from_array(values, "table"))
    source = models.write(proto, tmp_path)
    rows = [{"ids": row["ids"], "mask": row["mask"]} for row in _rows(9, 12, 7)]
    axes, original = sequence_inputs(source), _load(source)
    assert check_padding(original, original, axes, rows).axes is not None
    assert check_padding(original, _load(models.make("dynamic", source).artifact), axes, rows).axes is None


SHARED = Path(__file__).parents[4] / "shared" / "models"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("method", "options", "proved"),
    [("int8", {"repair": False}, True), ("fp16", {}, True), ("dynamic", {}, False)],
)
def test_real_sentences(tmp_path: Path, method: str, options: dict[str, Any], proved: bool) -> None:
    if not (SHARED / "minilm.onnx").exists():
        pytest.skip(f"a real model is missing: put it at {SHARED}/minilm.onnx")
    source = tmp_path / "original.onnx"
    source.symlink_to(SHARED / "minilm.onnx")
    arrays = dict(np.load(SHARED / "stsb_dev.npz"))
    made = models.make(method, source, arrays, cpu=this_cpu(), calibrate=64, **options)
    rows = [{name: arrays[name][[row]] for name in ("input_ids", "attention_mask")} for row in range(100, 108)]
    axes = sequence_inputs(source)
    assert axes == {"input_ids": 1, "attention_mask": 1}
    found = check_padding(_load(source), _load(made.artifact), axes, rows)
    assert (found.axes is not None) is proved
    assert (found.note is None) is proved


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [
        ({"ids": ["n", "s"], "mask": ["n", "s"]}, BOTH),
        ({"ids": ["n", "s"], "mask": ["n", 7]}, {"ids": 1}),
        ({"ids": ["n", "s"], "types": ["n"]}, {"ids": 1}),
        ({"x": ["n", 40, "frames"]}, {"x": 2}),
        ({"ids": [None, None], "mask": [None, None]}, BOTH),
        ({"x": [None, None, 40]}, {"x": 1}),
        # An image, a target of another length, a square mask, and nothing dynamic.
        ({"x": ["n", 3, "h", "w"]}, {}),
        ({"x": [None, 3, None, None]}, {}),
        ({"ids": ["n", "s"], "target": ["n", "t"]}, {}),
        ({"ids": ["n", "s"], "mask": ["n", "s", "s"]}, {}),
        ({"ids": ["n", "s"], "mask": ["n", None]}, {}),
        ({"ids": [None, None], "types": [None]}, {}),
        ({"x": ["n", 3]}, {}),
        ({"x": ["n", "n"]}, {}),
        ({"words": (TensorProto.STRING, ["n", "s"])}, {}),
    ],
)
def test_the_sequence_is_the_one_dynamic_dimension_that_inputs_share(
    tmp_path: Path, inputs: dict[str, Any], axes: dict[str, int]
) -> None:
    assert sequence_inputs(models.write(models.model([], inputs, {}), tmp_path)) == axes


def test_weights_that_count_as_inputs_have_no_sequence(tmp_path: Path) -> None:
    """Before IR version 4 every weight had to be an input too."""
    proto = graphs.masked_attention()
    proto.graph.input.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, ["rows", "columns"]))
    assert sequence_inputs(models.write(proto, tmp_path)) == BOTH


def test_models_without_a_sequence_are_not_noted(tmp_path: Path) -> None:
    assert _checked(models.classifier(), tmp_path, [{"x": models.normal(1, 3, 8, 8)}]) == Padding(None)


def test_made_up_sequences_are_never_masked_altogether() -> None:
    zeros = {"ids": np.zeros((1, 4), np.int64), "scale": np.zeros((1, 2), np.float32)}
    first, second = made_up_sequences([zeros, zeros], {"ids": 1})
    assert first["ids"].tolist() == [[1, 1, 1, 1]]
    assert second["ids"].tolist() == [[1, 0, 0, 0]]
    assert not first["scale"].any()
    assert not zeros["ids"].any()


@pytest.mark.parametrize("length", range(1, 40))
def test_sequences_are_tried_at_lengths_that_leave_something_to_pad(length: int) -> None:
    for longest in range(max(2, length), 64, 7):
        tried = list(_shorter(length, longest))
        assert tried
        for short in tried:
            assert 0 < short <= length
            assert all(short < padded <= longest for padded in _longer(short, longest))
            assert _longer(short, longest)[-1] == longest
