"""Models that ONNX's checker accepts, and that break whoever loads or runs them: refused where that does no harm."""

import itertools
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.errors import InvalidModel, TooLarge
from app.intake import onnx_tensors
from app.intake.sandbox import inspect_model
from tests import graphs
from tests.app.intake.conftest import Room

pytestmark = pytest.mark.e2e

TERABYTE = np.array([1 << 20, 1 << 18], np.int64)


def _model(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], kind: int = TensorProto.FLOAT) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


#: Few bytes that come to a terabyte when they are run, or already when constants are folded.
ENORMOUS = {
    "of_a_shape": _model(
        [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["c", "x"], ["y"])],
        {"s": TERABYTE},
    ),
    "expanded": _model([helper.make_node("Expand", ["x", "s"], ["y"])], {"s": TERABYTE}),
    "tiled": _model([helper.make_node("Tile", ["x", "s"], ["y"])], {"s": np.array([1 << 38], np.int64)}),
    "padded": _model([helper.make_node("Pad", ["x", "s"], ["y"])], {"s": np.array([0, 1 << 38], np.int64)}),
}


@pytest.mark.parametrize("name", ENORMOUS)
def test_a_shape_that_would_allocate_beyond_the_limit_is_refused(room: Room, name: str) -> None:
    with pytest.raises(InvalidModel, match="takes more memory"):
        inspect_model(room.upload(ENORMOUS[name]), "m.onnx", room.folder, room.limits, engine="onnxruntime")


def dividing(left: list[onnx.NodeProto], **tensors: np.ndarray) -> bytes:
    return _model([*left, helper.make_node("Div", ["a", "b"], ["y"])], tensors, TensorProto.INT64)


LEAST, MINUS_ONE = np.array([-(2**63)]), np.array([-1])
CRASHING = {
    "when_it_is_loaded": _model(
        [helper.make_node("Div", ["a", "b"], ["c"]), helper.make_node("Add", ["c", "x"], ["y"])],
        {"a": LEAST, "b": MINUS_ONE},
        TensorProto.INT64,
    ),
    "when_it_is_run": dividing(
        [helper.make_node("Add", ["x", "least"], ["a"]), helper.make_node("Add", ["x", "minus_one"], ["b"])],
        least=LEAST,
        minus_one=MINUS_ONE,
    ),
}


@pytest.mark.parametrize("name", CRASHING)
def test_a_model_that_crashes_the_runtime_is_refused_and_crashes_nothing_else(room: Room, name: str) -> None:
    (room.path / "crashing.onnx").write_bytes(CRASHING[name])
    program = (
        "import sys, numpy as np, onnxruntime as ort\n"
        "ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']).run(None, {'x': np.zeros(1, np.int64)})"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(room.path / "crashing.onnx")], capture_output=True)
    (room.path / "crashing.onnx").unlink()
    if ran.returncode >= 0:
        pytest.skip("needs a version of onnxruntime that crashes over this model, which this one refuses")
    with pytest.raises(InvalidModel, match="crashes"):
        inspect_model(room.upload(CRASHING[name]), "m.onnx", room.folder, room.limits, engine="onnxruntime")


def test_a_model_that_refuses_made_up_inputs_is_taken_all_the_same(room: Room) -> None:
    content = dividing([helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Identity", ["x"], ["b"])])
    assert inspect_model(room.upload(content), "m.onnx", room.folder, room.limits, engine="onnxruntime").opset == 17


def test_more_tensors_than_any_model_has_are_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_tensors, "MAX_TENSORS", 3)
    content = _model([helper.make_node("Identity", ["x"], ["y"])], {str(i): np.ones(1) for i in range(4)})
    with pytest.raises(TooLarge, match="more than 3 tensors"):
        room.model("m.onnx", content)


def test_more_nodes_than_any_model_has_are_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.intake import onnx_graph

    monkeypatch.setattr(onnx_graph, "MAX_UNFOLDED_NODES", 3)
    names = ["x", "1", "2", "3", "y"]
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in itertools.pairwise(names)]
    with pytest.raises(TooLarge, match="more than 3 nodes"):
        room.model("m.onnx", _model(nodes, {}))


def test_a_child_that_claims_another_digest_is_not_believed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could have its file kept under the digest of a model that somebody else will upload."""
    from app.intake import sandbox

    content = graphs.linear_classifier().SerializeToString()
    real = sandbox._Child.ask

    def lying(self: sandbox._Child, *asked: object, **options: object) -> dict[str, object]:
        answer = real(self, *asked, **options)  # type: ignore[arg-type]
        return answer | {"digest": "0" * 64, "file_digest": "0" * 64}

    monkeypatch.setattr(sandbox._Child, "ask", lying)
    with pytest.raises(InvalidModel, match="damaged"):
        inspect_model(room.upload(content), "m.onnx", room.folder, room.limits, engine="onnxruntime")
