import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from app.errors import InvalidModel, TooLarge
from app.intake import onnx_canonical
from app.intake.artifacts import Limits
from tests import graphs
from tests.app.intake.archives import tar_of, tar_with, zip_of, zip_with_link
from tests.app.intake.conftest import Room
from tests.app.intake.test_onnx_model import nested_ifs, relu

FEED = {"x": np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)}


def split(model: ModelProto, location: str = "weights.bin", *, gap: int = 0) -> tuple[bytes, bytes]:
    """`model` with all initializers moved to a data file, each after `gap` bytes of nothing; and that file."""
    content = b""
    for tensor in model.graph.initializer:
        content += b"\xee" * gap
        point(tensor, location=location, offset=len(content), length=len(tensor.raw_data))
        content += tensor.raw_data
        tensor.ClearField("raw_data")
    return model.SerializeToString(), content


def point(tensor: TensorProto, **entries: object) -> TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("external_data")
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def classifier() -> ModelProto:
    return graphs.linear_classifier(features=64, classes=32)


def output_of(path: Path) -> NDArray[np.float32]:
    result: NDArray[np.float32] = ReferenceEvaluator(onnx.load(path)).run(None, FEED)[0]
    return result


def expected() -> NDArray[np.float32]:
    result: NDArray[np.float32] = ReferenceEvaluator(classifier()).run(None, FEED)[0]
    return result


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_model_with_companion_files_becomes_one_file(room: Room, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    model, data = split(classifier(), gap=7)
    checked = room.model("m.zip" if pack is zip_of else "m.tar", pack({"m.onnx": model, "weights.bin": data}))
    assert checked.data_path is None
    np.testing.assert_array_equal(output_of(checked.path), expected())
    assert checked.digest == checked.file_digest == hashlib.sha256(checked.path.read_bytes()).hexdigest()
    assert checked.size_bytes == checked.path.stat().st_size
    assert checked.float_bytes == 4 * (64 * 32 + 32)


def test_companions_are_found_beside_the_model_wherever_that_lies(room: Room) -> None:
    model, data = split(classifier(), "./parts/weights.bin")
    checked = room.model("m.zip", zip_of({"export/m.onnx": model, "export/parts/weights.bin": data}))
    np.testing.assert_array_equal(output_of(checked.path), expected())


def test_the_digest_does_not_depend_on_how_the_upload_was_packed(room: Room) -> None:
    digests = set()
    for location, gap, pack in (("a.bin", 0, zip_of), ("b/c.bin", 13, zip_of), ("a.bin", 4096, tar_of)):
        model, data = split(classifier(), location, gap=gap)
        filename = "m.zip" if pack is zip_of else "m.tar"
        digests.add(room.model(filename, pack({"m.onnx": model, location: data})).digest)
        room.clear()
    assert len(digests) == 1


def test_a_model_too_large_for_one_protobuf_gets_one_data_file(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_canonical, "EMBED_LIMIT", 2000)
    model, data = split(classifier(), "somewhere/else.bin", gap=3)
    checked = room.model("m.zip", zip_of({"m.onnx": model, "somewhere/else.bin": data}))
    assert checked.path.name == "model.onnx"
    assert checked.data_path == room.folder / "model.onnx.data"
    np.testing.assert_array_equal(output_of(checked.path), expected())
    tensors = {tensor.name: tensor for tensor in onnx.load(checked.path, load_external_data=False).graph.initializer}
    large = {entry.key: entry.value for entry in tensors["weight"].external_data}
    assert large == {"location": "model.onnx.data", "offset": "0", "length": str(64 * 32 * 4)}
    assert tensors["bias"].data_location == TensorProto.DEFAULT
    assert checked.data_digest == hashlib.sha256(checked.data_path.read_bytes()).hexdigest()
    assert len({checked.digest, checked.file_digest, checked.data_digest}) == 3
    assert checked.size_bytes == checked.path.stat().st_size + checked.data_path.stat().st_size


def test_large_models_keep_their_offsets_aligned_and_share_what_was_shared(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_canonical, "EMBED_LIMIT", 3000)
    values = np.arange(3 * 1000, dtype=np.float32)
    model = relu()
    for name, offset in (("a", 0), ("b", 4000), ("twin of a", 0)):
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1000])
        model.graph.initializer.append(point(tensor, location="w", offset=offset, length=4000))
    model.graph.initializer.append(numpy_helper.from_array(values[2000:2500], "held"))
    checked = room.model("m.tar", tar_of({"m.onnx": model.SerializeToString(), "w": values.tobytes()}))
    assert checked.data_path is not None
    loaded = onnx.load(checked.path)
    got = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}
    for name, start, stop in (("a", 0, 1000), ("b", 1000, 2000), ("twin of a", 0, 1000), ("held", 2000, 2500)):
        np.testing.assert_array_equal(got[name], values[start:stop])
    kept = onnx.load(checked.path, load_external_data=False)
    offsets = {t.name: int(e.value) for t in kept.graph.initializer for e in t.external_data if e.key == "offset"}
    assert offsets == {"a": 0, "b": 4096, "twin of a": 0, "held": 8192}
    assert checked.data_path.stat().st_size == 8192 + 2000


def test_what_is_too_large_and_no_initializer_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_canonical, "EMBED_LIMIT", 2000)
    tensor = point(TensorProto(data_type=TensorProto.FLOAT, dims=[1000]), location="w")
    model = relu()
    model.graph.node[0].attribute.add(name="a", type=AttributeProto.TENSOR, t=tensor)
    with pytest.raises(InvalidModel, match="keep large tensors as initializers"):
        room.model("m.zip", zip_of({"m.onnx": model.SerializeToString(), "w": bytes(4000)}))


def test_a_bare_model_with_external_data_is_told_to_come_in_an_archive(room: Room) -> None:
    model, _ = split(classifier(), "target")
    with pytest.raises(InvalidModel, match=r"upload a \.zip or \.tar"):
        room.model("m.onnx", model)


def _external(**entries: object) -> TensorProto:
    return point(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4]), **entries)


LEAVING = [
    "../target",
    "a/../../target",
    "/etc/passwd",
    "..\\target",
    "C:/target",
    "",
    ".",
    "..",
    "w/",
    "w\x00",
    "%2e%2e/target",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("location", LEAVING)
def test_external_data_never_leaves_the_upload(room: Room, location: str) -> None:
    model = relu()
    model.graph.initializer.append(_external(location=location))
    content = model.SerializeToString()
    for filename, upload in (
        ("m.zip", zip_of({"m.onnx": content, "w": bytes(16)})),
        ("m.zip", zip_of({"deep/er/m.onnx": content, "deep/er/w": bytes(16)})),
        ("m.tar", tar_of({"m.onnx": content, "w": bytes(16)})),
    ):
        with pytest.raises(InvalidModel) as refused:
            room.model(filename, upload)
        assert "'w'" in refused.value.detail
        assert str(room.path) not in refused.value.detail
        room.clear()


def _hiding_places() -> dict[str, ModelProto]:
    """Every field in which a loader may come across a tensor that names a file."""
    outward = _external(location="../target")
    indices = TensorProto(data_type=TensorProto.INT64, dims=[1], int64_data=[0])
    values = TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[1], float_data=[1])
    outward_index = point(TensorProto(name="w", data_type=TensorProto.INT64, dims=[1]), location="../target")
    sparse = onnx.SparseTensorProto(values=outward, indices=indices, dims=[8])
    graph = onnx.GraphProto(name="g", initializer=[outward])
    attributes = {
        "tensor": AttributeProto(name="value", type=AttributeProto.TENSOR, t=outward),
        "tensors": AttributeProto(name="v", type=AttributeProto.TENSORS, tensors=[outward]),
        "sparse": AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse),
        "sparses": AttributeProto(name="v", type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse]),
        "graph": AttributeProto(name="v", type=AttributeProto.GRAPH, g=graph),
        "graphs": AttributeProto(name="v", type=AttributeProto.GRAPHS, graphs=[graph]),
    }
    places = {}
    for name, attribute in attributes.items():
        places[name] = relu()
        places[name].graph.node[0].attribute.append(attribute)
        places[f"{name} in a function"] = relu()
        node = onnx.NodeProto(op_type="Constant", output=["b"], attribute=[attribute])
        places[f"{name} in a function"].functions.add(domain="f", name="F", output=["b"], node=[node])
        places[f"{name} as a function's default"] = relu()
        places[f"{name} as a function's default"].functions.add(domain="f", name="F", attribute_proto=[attribute])
    places["sparse initializer"] = relu()
    places["sparse initializer"].graph.sparse_initializer.append(sparse)
    places["sparse indices"] = relu()
    places["sparse indices"].graph.sparse_initializer.add(values=values, indices=outward_index, dims=[8])
    places["training algorithm"] = relu()
    places["training algorithm"].training_info.add().algorithm.initializer.append(outward)
    return places


HIDING_PLACES = _hiding_places()


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_a_path_outward_is_found_wherever_it_hides(room: Room, place: str) -> None:
    content = HIDING_PLACES[place].SerializeToString()
    with pytest.raises(InvalidModel, match=r"'\.\./target' is not a plain relative path"):
        room.model("m.zip", zip_of({"m.onnx": content}))
    with pytest.raises(InvalidModel, match=r"upload a \.zip or \.tar"):
        room.model("m.onnx", content)


def test_links_in_the_archive_are_no_companions(room: Room) -> None:
    model = relu()
    model.graph.initializer.append(_external(location="w"))
    files = {"m.onnx": model.SerializeToString()}
    point(model.graph.initializer[0], location="folder/target")
    under_a_link = {"m.onnx": model.SerializeToString()}
    for filename, content in (
        ("m.zip", zip_with_link(files, "w", "../target")),
        ("m.zip", zip_with_link(files, "w", "/etc/passwd")),
        ("m.tar", tar_with(files, b"2", "w", "../target")),
        ("m.tar", tar_with(files, b"1", "w", "../target")),
        ("m.tar", tar_with(under_a_link, b"2", "folder", "..")),
    ):
        with pytest.raises(InvalidModel, match="is a link"):
            room.model(filename, content)


WRONG_REFERENCES: list[tuple[TensorProto, str]] = [
    (_external(location="missing"), "'missing', which is not in the archive"),
    (_external(location="m.onnx"), "not in the archive beside"),
    (_external(location="w", offset=1), "wants bytes 1 to 17 of 'w', which has 16"),
    (_external(location="w", offset=2**62), "which has 16"),
    (_external(location="w", offset=10**30), "non-negative integer"),
    (_external(location="w", offset=-1), "offset '-1' is not a non-negative integer"),
    (_external(location="w", length=-16), "length '-16' is not a non-negative integer"),
    (_external(location="w", length=2**62), "16 bytes by its shape"),
    (_external(location="w", length=8), "16 bytes by its shape and 8 by its length"),
    (_external(location="w", length="0x10"), "non-negative integer"),
    (_external(location="w", length="١٦"), "non-negative integer"),
    (_external(location="w", __class__="x"), "the key '__class__'"),
    (_external(location="w", basepath="/etc"), "the key 'basepath'"),
    (_external(), "location '' is not"),
    (point(TensorProto(name="w", data_type=1, dims=[2**31, 2**31]), location="w"), "which has 16"),
    (point(TensorProto(name="w", data_type=1, dims=[2**62, 4]), location="w"), "overflows"),
    (point(TensorProto(name="w", data_type=1, dims=[-4]), location="w"), "negative"),
    (point(TensorProto(name="w", data_type=8, dims=[4]), location="w"), "strings"),
    (point(TensorProto(name="w", data_type=1, dims=[4], raw_data=bytes(16)), location="w"), "both in the model"),
    (
        TensorProto(
            name="w", data_type=1, dims=[4], raw_data=bytes(16), external_data=_external(location="w").external_data
        ),
        "does not declare",
    ),
]


@pytest.mark.parametrize(("tensor", "words"), WRONG_REFERENCES)
def test_a_wrong_reference_is_refused(room: Room, tensor: TensorProto, words: str) -> None:
    model = relu()
    model.graph.initializer.append(tensor)
    with pytest.raises(InvalidModel, match=words) as refused:
        room.model("m.zip", zip_of({"m.onnx": model.SerializeToString(), "w": bytes(16)}))
    assert "'w'" in refused.value.detail


def test_a_location_named_twice_is_refused(room: Room) -> None:
    tensor = _external(location="w")
    tensor.external_data.add(key="location", value="../target")
    model = relu()
    model.graph.initializer.append(tensor)
    with pytest.raises(InvalidModel, match="twice"):
        room.model("m.zip", zip_of({"m.onnx": model.SerializeToString(), "w": bytes(16)}))


def test_many_tensors_over_the_same_bytes_are_no_bomb(room: Room) -> None:
    model = relu()
    for number in range(100):
        tensor = TensorProto(name=f"w{number}", data_type=TensorProto.UINT8, dims=[1000])
        model.graph.initializer.append(point(tensor, location="w"))
    room.limits = Limits(60, 50_000)
    with pytest.raises(TooLarge, match="50000 bytes"):
        room.model("m.zip", zip_of({"m.onnx": model.SerializeToString(), "w": bytes(1000)}))


def test_a_constant_with_external_data_is_embedded(room: Room) -> None:
    values = np.arange(4, dtype=np.float32)
    tensor = point(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4]), location="w")
    constant = helper.make_node("Constant", [], ["k"])
    constant.attribute.add(name="value", type=AttributeProto.TENSOR, t=tensor)
    model = relu()
    model.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "k"], ["y"]))
    model.graph.node.insert(0, constant)
    checked = room.model("m.zip", zip_of({"m.onnx": model.SerializeToString(), "w": values.tobytes()}))
    kept = onnx.load(checked.path, load_external_data=False).graph.node[0].attribute[0].t
    assert kept.data_location == TensorProto.DEFAULT
    np.testing.assert_array_equal(numpy_helper.to_array(kept), values)


def test_all_else_in_a_model_survives_being_written_anew(room: Room) -> None:
    model = ModelProto.FromString(nested_ifs(2).SerializeToString())
    model.producer_name, model.doc_string, model.model_version = "someone", "äöü", 3
    model.metadata_props.add(key="author", value="x" * 300)
    model.functions.append(
        helper.make_function("f", "F", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], model.opset_import)
    )
    whole = [
        numpy_helper.from_array(np.arange(7, dtype=np.int64), "held"),
        TensorProto(name="typed", data_type=TensorProto.FLOAT, dims=[2], float_data=[1, 2]),
        TensorProto(name="none", data_type=TensorProto.FLOAT, dims=[0]),
        TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]),
        numpy_helper.from_array(np.arange(300, dtype=np.uint8), "moved"),
    ]
    inner = model.graph.node[0].attribute[0].g
    inner.initializer.append(numpy_helper.from_array(np.arange(9, dtype=np.float32), "inner"))
    model.graph.initializer.extend(whole)
    expected = model.SerializeToString(deterministic=True)
    data = whole[-1].raw_data + inner.initializer[0].raw_data
    for tensor, offset in ((model.graph.initializer[-1], 0), (inner.initializer[0], 300)):
        point(tensor, location="w", offset=offset).ClearField("raw_data")
    checked = room.model("m.zip", zip_of({"m.onnx": model.SerializeToString(), "w": data}))
    assert onnx.load(checked.path).SerializeToString(deterministic=True) == expected


def test_text_that_is_no_text_is_refused(room: Room) -> None:
    model = relu()
    model.producer_name = "somebody"
    model.graph.initializer.append(_external(location="w"))
    content = model.SerializeToString().replace(b"somebody", b"some\xff\xfe\xfd\xfc")
    with pytest.raises(InvalidModel, match="producer_name is not UTF-8"):
        room.model("m.zip", zip_of({"m.onnx": content, "w": bytes(16)}))
