"""Files that no service should take: what the readers' own tests refuse, sent the whole way, and others.

Of datasets, which are read as tables, arrays or images by one program, one in three of what these tests have.
"""

from dataclasses import dataclass

from onnx import ModelProto, TensorProto, helper

from tests import graphs
from tests.app.intake import test_archive, test_arrays, test_external_data, test_images, test_onnx_model, test_tables
from tests.app.intake.archives import zip_of, zip_with_link
from tests.app.intake.test_external_data import LEAVING, WRONG_REFERENCES, point
from tests.app.intake.test_onnx_model import WRONG_TENSORS, adding, relu


@dataclass(frozen=True)
class BadFile:
    """`words`: a pattern of the answer's detail. `elsewhere`: the readers' own tests refuse it too."""

    what: str
    filename: str
    content: bytes
    words: str
    status: int = 422
    elsewhere: bool = True


def _models() -> list[BadFile]:
    found = [
        BadFile(f"model {number}: {words}", filename, content, words)
        for number, (filename, content, words) in enumerate(test_onnx_model.WRONG_FILES)
    ]
    found += [
        BadFile(f"tensor {number}: {words}", "m.onnx", adding(tensor).SerializeToString(), words)
        for number, (tensor, words) in enumerate(WRONG_TENSORS)
    ]
    found += [
        BadFile(f"a bad tensor as {place}", "m.onnx", model.SerializeToString(), "'hidden' declares shape")
        for place, model in test_onnx_model.HIDING_PLACES.items()
    ]
    found += [
        BadFile(f"a path outward as {place}", "m.zip", zip_of({"m.onnx": model.SerializeToString()}), "plain relative")
        for place, model in test_external_data.HIDING_PLACES.items()
    ]
    found += [BadFile(f"data at {location!r}", "m.zip", _with_reference(_at(location)), "'w'") for location in LEAVING]
    found += [
        BadFile(f"reference {number}: {words}", "m.zip", _with_reference(tensor), words)
        for number, (tensor, words) in enumerate(WRONG_REFERENCES)
    ]
    found += [
        BadFile(f"archive {number}: {words}", filename, content, words)
        for number, (filename, content, words) in enumerate(test_archive.HOSTILE)
    ]
    found += [
        BadFile("a linked companion", "m.zip", _linked("../../../etc/passwd"), "is a link", elsewhere=False),
        BadFile("a companion that is a device", "m.zip", _linked("/dev/zero"), "is a link", elsewhere=False),
        BadFile("an archive bomb", "m.zip", test_archive._bomb("m.zip"), "bomb", 413, elsewhere=False),
        BadFile("a tar bomb", "m.tar.gz", test_archive._bomb("m.tar.gz"), "bomb", 413, elsewhere=False),
        BadFile(
            "what the engine cannot run", "m.onnx", graphs.beyond_the_engine().SerializeToString(), ".", elsewhere=False
        ),
        BadFile(
            "a constant of terabytes", "m.onnx", _constant_of_shape(2**40).SerializeToString(), ".", elsewhere=False
        ),
        BadFile("constants folded to terabytes", "m.onnx", _tiled(2**20).SerializeToString(), ".", elsewhere=False),
    ]
    return found


def _at(location: str) -> TensorProto:
    return point(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4]), location=location)


def _with_reference(tensor: TensorProto) -> bytes:
    model = relu()
    model.graph.initializer.append(tensor)
    return zip_of({"m.onnx": model.SerializeToString(), "w": bytes(16)})


def _linked(target: str) -> bytes:
    model = relu()
    model.graph.initializer.append(_at("w"))
    return zip_with_link({"m.onnx": model.SerializeToString()}, "w", target)


def _constant_of_shape(elements: int) -> ModelProto:
    """A model whose constant would take terabytes if it were folded, or run once."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [elements])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    return _model(nodes, [shape])


def _tiled(times: int) -> ModelProto:
    one = helper.make_tensor("one", TensorProto.FLOAT, [1, 1], [1.0])
    repeats = helper.make_tensor("repeats", TensorProto.INT64, [2], [times, times])
    nodes = [
        helper.make_node("Tile", ["one", "repeats"], ["t"]),
        helper.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    return _model(nodes, [one, repeats])


def _model(nodes: list[object], initializers: list[TensorProto]) -> ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "attack", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _datasets() -> list[BadFile]:
    lists = {
        "arrays": test_arrays.WRONG_ARRAYS,
        "table": test_tables.WRONG_TABLES,
        "images": [("d.zip", content, words) for content, words in test_images.WRONG_IMAGES],
    }
    found = [
        BadFile(f"{kind} {number}: {words}"[:120], filename, content, words)
        for kind, rows in lists.items()
        for number, (filename, content, words) in list(enumerate(rows))[::3]
    ]
    return [*found, BadFile("a bomb of arrays", "d.npz", test_archive._bomb("m.zip"), ".", elsewhere=False)]


MODELS = _models()
DATASETS = _datasets()
