"""What fuzzing begins with: good models, datasets and requests, and those that tests have refused. All made by code."""

import io
import json
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from app.inference.grpc.schema import METHODS
from tests import graphs
from tests.app.intake import test_arrays, test_images, test_tables
from tests.app.intake.archives import tar_of, zip_of
from tests.hostile import files

#: Larger ones are attacks by size, which small changes make nothing new of.
_LARGEST = 32 * 1024

_GOOD_MODELS = (
    graphs.linear_classifier,
    graphs.quantized_classifier,
    graphs.convolution,
    graphs.all_datatypes,
    graphs.two_token_inputs,
    graphs.masked_attention,
    graphs.beyond_the_engine,
    partial(graphs.counting_down, width=8),
    partial(graphs.greedy_for_memory, side=64),
    graphs.integer_quotient,
)


def models() -> Iterator[bytes]:
    made = [model().SerializeToString() for model in _GOOD_MODELS]
    external = graphs.with_external_weight("w").SerializeToString()
    yield from made
    yield zip_of({"m.onnx": made[0]})
    yield zip_of({"m.onnx": external, "w": bytes(4 * 16 * 4)})
    yield tar_of({"models/m.onnx": external, "models/w": bytes(4 * 16 * 4)})
    yield tar_of({"m.onnx": made[0]}, zipped=True)
    yield from (bad.content for bad in files.MODELS)


def requests() -> Iterator[bytes]:
    numbers = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [-3, 1e30]]}
    for tensor in (
        numbers,
        numbers | {"datatype": "INT64", "data": [1, 2, -3, 2**62]},
        numbers | {"datatype": "UINT8", "data": [0, 1, 2, 255]},
        numbers | {"datatype": "FP64", "data": [0.1, 1e300, -0.0, 5e-324]},
        numbers | {"datatype": "BOOL", "data": [True, False, True, False]},
        numbers | {"datatype": "BYTES", "data": ["a", "é", "", "\u0000"]},
    ):
        yield _asked({"id": "1", "inputs": [tensor]}, None)
    outputs = [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}]
    parameters = {"priority": 1, "timeout": 10**6, "sequence_id": 7, "sequence_start": True, "unit_id": "u"}
    yield _asked({"inputs": [numbers, numbers], "outputs": outputs, "parameters": parameters}, None)
    strings = struct.pack("<I2sI", 2, b"ab", 0)
    for datatype, content in (
        ("FP32", np.arange(2, dtype="<f4").tobytes()),
        ("FP16", np.array([1, np.inf], dtype="<f2").tobytes()),
        ("BF16", b"\x80\x3f\x00\xc0"),
        ("BOOL", b"\x00\x07"),
        ("INT8", b"\x80\x7f"),
        ("UINT64", b"\xff" * 16),
        ("BYTES", strings),
    ):
        announced = {
            "name": "x",
            "shape": [2],
            "datatype": datatype,
            "parameters": {"binary_data_size": len(content)},
        }
        yield _asked({"inputs": [announced], "parameters": {"binary_data_output": True}}, content)
    for number, content in ((0, bytes(16)), (1, b"text"), (2, bytes(6)), (3, b"\x01\x00"), (6, b"abc"), (7, bytes(8))):
        yield json.dumps([0, number]).encode() + b"\n" + content


def _asked(message: dict[str, Any], rest: bytes | None) -> bytes:
    """The request as `tests.fuzz.targets.codec` takes it."""
    written = json.dumps(message).encode()
    length = None if rest is None else len(written)
    return json.dumps([length, 0]).encode() + b"\n" + written + (rest or b"")


def grpc_requests() -> Iterator[bytes]:
    message = METHODS["ModelInfer"].request
    typed = {
        "BOOL": {"bool_contents": [True, False]},
        "INT8": {"int_contents": [-128, 127]},
        "INT64": {"int64_contents": [-1, 2**62]},
        "UINT16": {"uint_contents": [0, 65535]},
        "UINT64": {"uint64_contents": [0, 2**64 - 1]},
        "FP32": {"fp32_contents": [0.5, float("inf")]},
        "FP64": {"fp64_contents": [0.1, 1e300]},
        "BYTES": {"bytes_contents": [b"\xff", b""]},
    }
    for datatype, contents in typed.items():
        tensor = {"name": "x", "datatype": datatype, "shape": [2], "contents": contents}
        yield message(model_name="m", id="1", inputs=[tensor]).SerializeToString()
    raw = {"FP16": bytes(4), "BF16": bytes(4), "INT32": bytes(8), "BYTES": struct.pack("<I2sI", 2, b"ab", 0)}
    inputs = [{"name": name, "datatype": name, "shape": [2]} for name in raw]
    output = {"name": "y", "parameters": {"classification": {"int64_param": 2}}}
    parameters = {
        "timeout": {"int64_param": 10},
        "unit_id": {"string_param": "u"},
        "sequence_start": {"bool_param": True},
    }
    whole = message(inputs=inputs, outputs=[output], parameters=parameters, raw_input_contents=list(raw.values()))
    yield whole.SerializeToString()


def datasets() -> Iterator[bytes]:
    arrays = graphs.labelled_samples(samples=4, shape=(3,))
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **arrays)  # type: ignore[arg-type]
    yield _file(".npz", compressed.getvalue())
    yield _file(
        ".npz", test_arrays.npz({"x": np.asfortranarray(np.ones((4, 2, 3), ">f2")), "m": np.zeros((4, 1), bool)})
    )
    yield _file(".npy", test_arrays.npy(np.arange(6, dtype=np.int64).reshape(3, 2)), '{"input": "x"}')
    yield _file(".csv", b"a,b,label\n1,2.5,cat\n3,4,dog\n")
    yield _file(".jsonl", test_tables.lines({"x": [1, 2], "label": "cat"}, {"x": [3, 4], "label": "dog"}))
    yield _file(".parquet", test_tables.parquet({"x": [[1.0, 2.0], [3.0, 4.0]], "label": [0, 1]}))
    picture = test_images.encoded(test_images.pixels())
    yield _file(".zip", zip_of({"cat/1.png": picture, "dog/1.png": picture}))
    for bad in files.DATASETS:
        yield _file(f".{bad.filename.rpartition('.')[2]}", bad.content)


def _file(ending: str, content: bytes, preprocess: str = "") -> bytes:
    """The upload as `tests.fuzz.targets.datasets` takes it."""
    return f"{ending} {preprocess}".encode() + b"\n" + content


_MAKERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "inspector": models,
    "codec": requests,
    "grpc_codec": grpc_requests,
    "datasets": datasets,
    "planted": lambda: iter([b"{}"]),
}


def seeds(target: str) -> list[bytes]:
    """The first inputs of `target`."""
    return [seed for seed in _MAKERS[target]() if len(seed) <= _LARGEST]
