import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from app import custom_operators
from app.engines.engine import TensorSpec
from app.errors import InvalidModel, OctetError, TooLarge
from app.intake import onnx_graph
from tests import graphs
from tests.app.intake.archives import tar_of, zip_of
from tests.app.intake.conftest import Room

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])


def model_of(
    nodes: list[NodeProto],
    *,
    initializers: list[TensorProto] | None = None,
    opset: int = 17,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    **more: object,
) -> ModelProto:
    graph = helper.make_graph(
        nodes, "graph", inputs if inputs is not None else [X], outputs if outputs is not None else [Y], initializers
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


def relu() -> ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"], name="relu")])


def adding(tensor: TensorProto) -> ModelProto:
    """`y = x + w`, `w` being `tensor`."""
    tensor.name = "w"
    return model_of([helper.make_node("Add", ["x", "w"], ["y"], name="add")], initializers=[tensor])


def nested_ifs(depth: int) -> ModelProto:
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["o0"])], "b0", [], [_float("o0")])
    for level in range(1, depth + 1):
        other = helper.make_graph([helper.make_node("Identity", ["x"], [f"e{level}"])], "e", [], [_float(f"e{level}")])
        node = helper.make_node("If", ["c"], [f"o{level}"], then_branch=body, else_branch=other)
        body = helper.make_graph([node], f"b{level}", [], [_float(f"o{level}")])
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    return model_of(list(body.node), inputs=[X, condition], outputs=[_float(f"o{depth}")])


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4])


def test_a_model_is_kept_byte_for_byte_and_described(room: Room) -> None:
    content = graphs.convolution().SerializeToString()
    checked = room.model("Net.ONNX", content)
    assert checked.path.read_bytes() == content
    assert checked.path.parent == room.folder
    assert checked.data_path is None
    assert checked.digest == checked.file_digest == hashlib.sha256(content).hexdigest()
    assert checked.data_digest is None
    assert checked.size_bytes == len(content)
    assert (checked.opset, checked.ir_version) == (17, 8)
    assert checked.inputs == (TensorSpec("image", "FP32", (-1, 3, 8, 8)),)
    assert checked.outputs == (TensorSpec("logits", "FP32", (-1, 4)),)
    assert checked.operators == {"Conv": 1, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 1}
    assert checked.operator_nodes.items() >= {"Conv": "conv", "Gemm": "classify"}.items()
    assert checked.float_bytes == 4 * (8 * 3 * 3 * 3 + 8 * 4)


def test_every_datatype_of_the_protocol_is_served(room: Room) -> None:
    checked = room.model("types.onnx", graphs.all_datatypes().SerializeToString())
    assert {spec.name: spec.datatype for spec in checked.inputs} == {
        f"in_{name}": name.upper()
        for name in (
            *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
            *("fp16", "fp32", "fp64", "bytes"),
        )
    }


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_an_archive_around_a_whole_model_is_that_model(room: Room, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    content = relu().SerializeToString()
    filename = "m.zip" if pack is zip_of else "m.tar"
    checked = room.model(filename, pack({"README.md": b"hello", "net/model.onnx": content}))
    assert checked.path.read_bytes() == content
    assert checked.digest == hashlib.sha256(content).hexdigest()


def test_initializers_among_the_inputs_are_not_asked_of_clients(room: Room) -> None:
    model = adding(numpy_helper.from_array(np.zeros(4, np.float32)))
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    assert [spec.name for spec in room.model("m.onnx", model.SerializeToString()).inputs] == ["x"]


def test_a_missing_output_shape_is_inferred_or_left_open(room: Room) -> None:
    open_shape = onnx.ValueInfoProto(name="y")
    open_shape.type.tensor_type.elem_type = TensorProto.FLOAT
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], outputs=[open_shape])
    assert room.model("m.onnx", model.SerializeToString()).outputs[0].shape == (-1, 4)
    room.clear()
    shape = helper.make_tensor_value_info("shape", TensorProto.INT64, ["rank"])
    model = model_of([helper.make_node("Reshape", ["x", "shape"], ["y"])], inputs=[X, shape], outputs=[open_shape])
    assert room.model("m.onnx", model.SerializeToString()).outputs[0].shape == (-1,)


def test_operators_and_weights_are_counted_in_subgraphs_and_functions(room: Room) -> None:
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(4, np.float32)))
    function = helper.make_function(
        *("local", "Twice", ["a"], ["b"]),
        [constant, helper.make_node("Mul", ["a", "k"], ["m"]), helper.make_node("Add", ["m", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    node = helper.make_node("Twice", ["x"], ["y"], domain="local")
    model = model_of([node], functions=[function])
    model.opset_import.append(helper.make_opsetid("local", 1))
    checked = room.model("m.onnx", model.SerializeToString())
    assert checked.operators == {"Add": 1, "Constant": 1, "Mul": 1, "local::Twice": 1}
    assert checked.float_bytes == 16
    room.clear()
    assert room.model("m.onnx", nested_ifs(3).SerializeToString()).operators == {"Identity": 4, "If": 3}


def test_the_first_node_of_each_operator_is_named_by_its_output_if_need_be(room: Room) -> None:
    model = graphs.two_token_inputs()
    model.graph.node.append(helper.make_node("Identity", ["embedding"], ["second"], name="late"))
    model.graph.node.insert(0, helper.make_node("Identity", ["ids"], ["first"], name="n" * 500))
    checked = room.model("m.onnx", model.SerializeToString())
    nodes = checked.operator_nodes
    assert nodes.keys() == checked.operators.keys()
    assert (nodes["Gather"], nodes["Cast"], nodes["Identity"]) == ("embed", "kept", "n" * 200)


def test_contributed_operators_of_the_runtime_are_accepted(room: Room) -> None:
    model = model_of([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert room.model("m.onnx", model.SerializeToString()).operators == {"com.microsoft::Gelu": 1}


def test_operators_of_a_domain_that_is_allowed_are_accepted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    content = graphs.custom_operator().SerializeToString()
    with pytest.raises(InvalidModel, match=r"domain 'ai\.onnx\.contrib'.*OCTET_CUSTOM_OPERATORS"):
        room.model("m.onnx", content)
    monkeypatch.setattr(custom_operators, "_libraries", {"ai.onnx.contrib": Path("/operators.so")})
    assert room.model("m.onnx", content).operators["ai.onnx.contrib::NegPos"] == 1


def test_a_large_tensor_plays_its_part_in_the_checks_without_its_bytes(room: Room) -> None:
    weight = numpy_helper.from_array(np.zeros((5000, 4), np.float32))
    model = adding(weight)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    checked = room.model("m.onnx", model.SerializeToString())
    assert checked.outputs[0].shape == (5000, 4)
    assert checked.path.read_bytes() == model.SerializeToString()


def _tensor(**fields: object) -> TensorProto:
    return TensorProto(**{"data_type": TensorProto.FLOAT, "dims": [4], **fields})


WRONG_TENSORS = [
    (_tensor(dims=[1_000_000], raw_data=b"1234"), "4000000 bytes, and has 4"),
    (_tensor(raw_data=b"1" * 20), "16 bytes, and has 20"),
    (_tensor(float_data=[1, 2, 3]), "4 values, and has 3"),
    (_tensor(), "no data"),
    (_tensor(raw_data=b"1" * 16, float_data=[1, 2, 3, 4]), "more than one field"),
    (_tensor(int64_data=[1, 2, 3, 4]), "int64_data"),
    (_tensor(dims=[-4], raw_data=b"1" * 16), "negative"),
    (_tensor(dims=[2**62, 2**62], raw_data=b"1"), "overflows"),
    (_tensor(dims=[2**32, 2**32, 0]), "overflows"),
    (_tensor(data_type=99, raw_data=b"1"), "element type 99"),
    (_tensor(data_type=TensorProto.UNDEFINED, raw_data=b"1"), "element type 0"),
    (_tensor(data_type=TensorProto.STRING, raw_data=b"1234"), "raw_data"),
    (_tensor(data_type=TensorProto.INT4, raw_data=b"123"), "2 bytes, and has 3"),
    (_tensor(segment=TensorProto.Segment(begin=0, end=4), raw_data=b"1" * 16), "segments"),
]


@pytest.mark.parametrize(("tensor", "words"), WRONG_TENSORS)
def test_a_tensor_that_is_not_what_it_declares_is_refused(room: Room, tensor: TensorProto, words: str) -> None:
    with pytest.raises(InvalidModel, match=words) as refused:
        room.model("m.onnx", adding(tensor).SerializeToString())
    assert "'w'" in refused.value.detail


@pytest.mark.parametrize(
    "tensor",
    [
        _tensor(raw_data=b"1" * 16),
        _tensor(dims=[0]),
        _tensor(dims=[], raw_data=b"1234"),
        _tensor(data_type=TensorProto.INT4, raw_data=b"12"),
        _tensor(data_type=TensorProto.UINT4, int32_data=[1, 2]),
        _tensor(data_type=TensorProto.FLOAT16, int32_data=[1, 2, 3, 4]),
        _tensor(data_type=TensorProto.COMPLEX64, float_data=[1.0] * 8),
        _tensor(data_type=TensorProto.UINT32, uint64_data=[1, 2, 3, 4]),
        _tensor(data_type=TensorProto.STRING, string_data=[b"a", b"b", b"c", b"d"]),
    ],
)
def test_all_ways_to_hold_a_tensor_are_understood(room: Room, tensor: TensorProto) -> None:
    tensor.name = "unused"
    model = relu()
    model.graph.initializer.append(tensor)
    assert room.model("m.onnx", model.SerializeToString()).opset == 17


BAD = _tensor(name="hidden", dims=[1000], raw_data=b"1")
GOOD_INDICES = TensorProto(data_type=TensorProto.INT64, dims=[1], int64_data=[0])
GOOD_VALUES = _tensor(name="sparse", dims=[1], raw_data=b"1234")


def _with_attribute(attribute: AttributeProto) -> ModelProto:
    model = relu()
    model.graph.node[0].attribute.append(attribute)
    return model


def _hidden_in_sparse_values() -> ModelProto:
    model = relu()
    model.graph.sparse_initializer.add(values=BAD, indices=GOOD_INDICES, dims=[8])
    return model


def _hidden_in_sparse_indices() -> ModelProto:
    indices = TensorProto(name="hidden", data_type=TensorProto.INT64, dims=[1000], raw_data=b"1")
    model = relu()
    model.graph.sparse_initializer.add(values=GOOD_VALUES, indices=indices, dims=[8])
    return model


def _sparse(values: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=GOOD_INDICES, dims=[8])


def _hidden_in_a_function() -> ModelProto:
    model = relu()
    node = helper.make_node("Constant", [], ["b"])
    node.attribute.add(name="value", type=AttributeProto.TENSOR, t=BAD)
    model.functions.append(helper.make_function("local", "F", [], ["b"], [node], [helper.make_opsetid("", 17)]))
    return model


def _hidden_in_a_functions_default() -> ModelProto:
    model = _hidden_in_a_function()
    model.functions[0].node[0].attribute[0].t.CopyFrom(_tensor(raw_data=b"1" * 16))
    model.functions[0].attribute_proto.add(name="d", type=AttributeProto.TENSOR, t=BAD)
    return model


def _hidden_in_training() -> ModelProto:
    model = relu()
    model.training_info.add().initialization.initializer.append(BAD)
    return model


HIDING_PLACES = {
    "attribute": _with_attribute(AttributeProto(name="a", type=AttributeProto.TENSOR, t=BAD)),
    "attribute list": _with_attribute(AttributeProto(name="a", type=AttributeProto.TENSORS, tensors=[BAD])),
    "subgraph": _with_attribute(
        AttributeProto(name="a", type=AttributeProto.GRAPH, g=GraphProto(name="g", initializer=[BAD]))
    ),
    "subgraph list": _with_attribute(
        AttributeProto(name="a", type=AttributeProto.GRAPHS, graphs=[GraphProto(name="g", initializer=[BAD])])
    ),
    "sparse attribute": _with_attribute(
        AttributeProto(name="a", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse(BAD))
    ),
    "sparse attribute list": _with_attribute(
        AttributeProto(name="a", type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[_sparse(BAD)])
    ),
    "sparse values": _hidden_in_sparse_values(),
    "sparse indices": _hidden_in_sparse_indices(),
    "function": _hidden_in_a_function(),
    "function default": _hidden_in_a_functions_default(),
    "training": _hidden_in_training(),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_no_tensor_hides_from_the_checks(room: Room, place: str) -> None:
    with pytest.raises(InvalidModel, match="tensor 'hidden' declares shape"):
        room.model("m.onnx", HIDING_PLACES[place].SerializeToString())


def test_a_sparse_tensor_that_unfolds_to_terabytes_is_refused(room: Room) -> None:
    model = relu()
    model.graph.sparse_initializer.add(values=GOOD_VALUES, indices=GOOD_INDICES, dims=[2**20, 2**20])
    with pytest.raises(TooLarge, match="unfold"):
        room.model("m.onnx", model.SerializeToString())


def _changed(change: Callable[[ModelProto], object]) -> bytes:
    model = relu()
    change(model)
    return model.SerializeToString()


def _duplicated(field: str) -> bytes:
    return _changed(lambda model: getattr(model.graph, field).append(getattr(model.graph, field)[0]))


def _of_type(kind: int, field: str = "input") -> bytes:
    def change(model: ModelProto) -> None:
        getattr(model.graph, field)[0].type.tensor_type.elem_type = kind

    return _changed(change)


def _sequence_output(model: ModelProto) -> None:
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))


def _rankless(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def _negative_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -7


def _custom_operator(model: ModelProto) -> None:
    model.graph.node[0].op_type = "Fancy"
    model.graph.node[0].domain = "my.ops"
    model.opset_import.append(helper.make_opsetid("my.ops", 1))


def _two_opsets(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("", 18))


NEWEST = onnx.defs.onnx_opset_version()
CONTENT = graphs.linear_classifier().SerializeToString()

WRONG_FILES = [
    ("m.onnx", b"", "empty"),
    ("m.zip", b"", "empty"),
    ("m.pt", CONTENT, r"accepted are \.onnx, \.zip, \.tar"),
    ("m", CONTENT, "accepted are"),
    ("m.onnx.exe", CONTENT, "accepted are"),
    ("m.onnx", b"Just some text, of which there is quite a lot.\n" * 20, "ONNX"),
    ("m.onnx", b"a,b\n1,2\n", "ONNX"),
    ("m.onnx", b"\x00" * 1000, "ONNX"),
    ("m.onnx", b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "ONNX"),
    ("m.onnx", CONTENT[:-1], "ONNX"),
    ("m.onnx", CONTENT[: len(CONTENT) // 2], "ONNX"),
    ("m.onnx", CONTENT[:2], "no ONNX graph"),
    ("m.onnx", CONTENT + b"trailing garbage", "ONNX"),
    ("m.onnx", CONTENT + b"\xfa\x0f\x03abc", "other bytes"),
    ("m.onnx", zip_of({"m.onnx": CONTENT}), "archive"),
    ("m.onnx", tar_of({"m.onnx": CONTENT}, zipped=True), "archive"),
    ("m.zip", zip_of({"readme.txt": b"x"}), "exactly one .onnx"),
    ("m.zip", zip_of({"a.onnx": CONTENT, "b.onnx": CONTENT}), "exactly one .onnx"),
    ("m.tar", tar_of({}), "exactly one .onnx"),
    ("m.onnx", _changed(lambda model: model.ClearField("ir_version")), "IR version is 0"),
    ("m.onnx", _changed(lambda model: setattr(model, "ir_version", 99)), f"1 to {onnx.IR_VERSION}"),
    ("m.onnx", _changed(lambda model: model.ClearField("opset_import")), "opset_import"),
    ("m.onnx", _changed(lambda model: setattr(model.opset_import[0], "version", 999)), f"1 to {NEWEST}"),
    ("m.onnx", _changed(_two_opsets), "two versions"),
    ("m.onnx", _changed(lambda model: model.graph.ClearField("output")), "no outputs"),
    ("m.onnx", _changed(lambda model: model.graph.ClearField("node")), "not valid ONNX"),
    ("m.onnx", _changed(lambda model: setattr(model.graph.node[0], "op_type", "Nonsense")), "Nonsense"),
    ("m.onnx", _changed(lambda model: model.graph.node[0].input.append("q")), "not valid ONNX"),
    ("m.onnx", _changed(lambda model: setattr(model.graph.output[0], "name", "z")), "not valid ONNX"),
    ("m.onnx", _changed(_custom_operator), "'relu' is of the operator 'Fancy' of the domain 'my.ops'"),
    ("m.onnx", _duplicated("input"), "2 inputs called 'x'"),
    ("m.onnx", _duplicated("output"), "2 outputs called 'y'"),
    ("m.onnx", _of_type(TensorProto.BFLOAT16), "input 'x' has elements of type BFLOAT16"),
    ("m.onnx", _of_type(TensorProto.COMPLEX64, "output"), "output 'y' has elements of type COMPLEX64"),
    ("m.onnx", _of_type(1234), "type 1234"),
    ("m.onnx", _changed(_sequence_output), "output 'y' is a sequence"),
    ("m.onnx", _changed(lambda model: model.graph.input[0].ClearField("type")), "no declared type"),
    ("m.onnx", _changed(_rankless), "input 'x' does not declare its rank"),
    ("m.onnx", _changed(_negative_input), "negative dimension -7"),
    ("m.onnx", nested_ifs(17).SerializeToString(), "16 deep"),
    ("m.onnx", relu().SerializeToString().replace(b"Relu", b"\xff\xfe\xfd\xfc"), "UTF-8"),
]


@pytest.mark.parametrize(("filename", "content", "words"), WRONG_FILES)
def test_a_file_that_cannot_be_served_is_refused_with_the_reason(
    room: Room, filename: str, content: bytes, words: str
) -> None:
    with pytest.raises(InvalidModel, match=words) as refused:
        room.model(filename, content)
    assert refused.value.field == "file"
    assert str(room.path) not in refused.value.detail


def test_text_that_is_not_utf8_is_refused_by_the_slow_decoder_too(room: Room) -> None:
    room.upload(relu().SerializeToString().replace(b"Relu", b"\xff\xfe\xfd\xfc"))
    program = (
        "import sys; from pathlib import Path; from app.intake import artifacts, onnx_model;"
        "folder = Path(sys.argv[1]); limits = artifacts.Limits(seconds=60, unpacked_bytes=1024**2);"
        "onnx_model.check_model(folder / 'upload', 'm.onnx', folder / 'scratch', limits)"
    )
    refused = subprocess.run(
        [sys.executable, "-c", program, str(room.path)],
        env=os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "InvalidModel: the model holds text that is not UTF-8" in refused.stderr


def test_graphs_may_be_nested_sixteen_deep(room: Room) -> None:
    assert room.model("m.onnx", nested_ifs(16).SerializeToString()).operators["If"] == 16


def test_protobuf_nesting_beyond_its_own_limit_is_called_nesting(room: Room) -> None:
    nested = b""
    for _ in range(40):  # GraphProto.node(1) > NodeProto.attribute(5) > AttributeProto.g(6)
        for tag in (0x32, 0x2A, 0x0A):
            nested = bytes([tag]) + _varint(len(nested)) + nested
    with pytest.raises(InvalidModel, match="nests graphs"):
        room.model("m.onnx", b"\x08\x08\x3a" + _varint(len(nested)) + nested)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _calling(calls: dict[str, list[str]]) -> bytes:
    """A model whose functions call each other; the main graph calls `f0`."""
    functions = []
    for name, callees in calls.items():
        nodes = [helper.make_node(callee, ["a"], [f"b{i}"], domain="local") for i, callee in enumerate(callees)]
        nodes.append(helper.make_node("Identity", ["a"], ["b"]))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        functions.append(helper.make_function("local", name, ["a"], ["b"], nodes, opsets))
    model = model_of([helper.make_node("f0", ["x"], ["y"], domain="local")], functions=functions)
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model.SerializeToString()


def test_functions_that_unfold_without_bound_are_refused(room: Room) -> None:
    doubling = {f"f{level}": [f"f{level + 1}"] * 10 for level in range(8)} | {"f8": []}
    for calls, words in (
        (doubling, f"more than {onnx_graph.MAX_UNFOLDED_NODES} nodes"),
        ({"f0": ["f1"], "f1": ["f0"]}, "without end"),
        ({"f0": [], "f1": ["f1"]}, "without end"),
    ):
        with pytest.raises(OctetError, match=words):
            room.model("m.onnx", _calling(calls))


def test_a_function_defined_twice_is_refused(room: Room) -> None:
    model = ModelProto.FromString(_calling({"f0": []}))
    model.functions.append(model.functions[0])
    with pytest.raises(InvalidModel, match="'f0' twice"):
        room.model("m.onnx", model.SerializeToString())
