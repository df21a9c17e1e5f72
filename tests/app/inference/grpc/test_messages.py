import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from app.engines.engine import NUMPY_TYPES, Array
from app.inference.grpc import messages
from app.inference.grpc.schema import METHODS
from app.inference.request import RequestedOutput
from app.inference.response import InferenceResponse, OutputTensor
from app.inference.served_variant import ServedVariant
from app.inference.tensors import to_bytes
from app.serving.pool import Artifact

Request = METHODS["ModelInfer"].request

shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def arrays_of(datatype: str) -> st.SearchStrategy[tuple[str, Array]]:
    if datatype == "BYTES":
        filled = st.lists(st.binary(max_size=9), max_size=5).map(strings)
    else:
        filled = npst.arrays(NUMPY_TYPES[datatype], shapes)
    return st.tuples(st.just(datatype), filled)


def strings(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def check_parsed(request: object, datatype: str, array: Array) -> None:
    header, (read,) = messages.parse(request)
    assert header.inputs == (("x", datatype, array.shape),)
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    if datatype == "BYTES":
        assert read.tolist() == array.tolist()
    else:
        np.testing.assert_array_equal(read, array)


@given(st.sampled_from(list(NUMPY_TYPES)).flatmap(arrays_of))
def test_raw_tensors_are_read(case: tuple[str, Array]) -> None:
    datatype, array = case
    request = Request(
        inputs=[{"name": "x", "datatype": datatype, "shape": array.shape}],
        raw_input_contents=[bytes(to_bytes(array))],
    )
    check_parsed(request, datatype, array)


@given(st.sampled_from([name for name in NUMPY_TYPES if name != "FP16"]).flatmap(arrays_of))
def test_typed_tensors_are_read(case: tuple[str, Array]) -> None:
    datatype, array = case
    contents = {messages._CONTENTS[datatype]: array.ravel().tolist()}
    request = Request(inputs=[{"name": "x", "datatype": datatype, "shape": array.shape, "contents": contents}])
    request.inputs[0].contents.SetInParent()
    check_parsed(request, datatype, array)


def test_raw_numbers_are_views_and_bf16_is_widened() -> None:
    values = np.array([1.5, -2], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    request = Request(
        inputs=[
            {"name": "x", "datatype": "FP32", "shape": [2]},
            {"name": "y", "datatype": "BF16", "shape": [2]},
        ],
        raw_input_contents=[values.tobytes(), upper.tobytes()],
    )
    x, y = messages.parse(request).arrays
    assert not x.flags.owndata
    assert x.tolist() == y.tolist() == [1.5, -2]


def test_all_that_a_request_can_say_is_read() -> None:
    request = Request(
        id="7",
        parameters={
            "priority": {"uint64_param": 2},
            "timeout": {"int64_param": 1000},
            "sequence_id": {"string_param": "s"},
            "sequence_start": {"bool_param": True},
            "mine": {"double_param": 0.5},
            "triton_enable_empty_final_response": {"bool_param": True},
        },
        inputs=[{"name": "x", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [3]}}],
        outputs=[{"name": "a"}, {"name": "b", "parameters": {"classification": {"int64_param": 3}}}],
    )
    read = messages.parse(request).header
    assert (read.id, read.priority, read.timeout_us) == ("7", 2, 1000)
    assert read.sequence is not None
    assert (read.sequence.id, read.sequence.start, read.sequence.end) == ("s", True, False)
    assert read.parameters == {"mine": 0.5}
    assert list(read.outputs) == [RequestedOutput("a", True, 0), RequestedOutput("b", True, 3)]
    assert read.binary_by_default


def test_what_is_left_out_is_none() -> None:
    request = Request(inputs=[{"name": "x", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [3]}}])
    read = messages.parse(request).header
    assert (read.id, read.priority, read.timeout_us, read.sequence) == (None, None, None, None)
    assert read.outputs == ()


@pytest.mark.parametrize("is_end", [False, True])
def test_an_answer_has_its_tensors_raw(is_end: bool) -> None:
    variant = ServedVariant("m", "int8", 2, (1, 2), Artifact.__new__(Artifact), (), (), None, True)
    outputs = [
        OutputTensor("y", "FP32", np.array([[1, 2]], np.float32), True),
        OutputTensor("z", "BYTES", strings([b"ab", b""]), True),
    ]
    answer = messages.render(InferenceResponse(variant, outputs, "7"), is_end=is_end)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "2", "7")
    assert answer.parameters["variant"].string_param == "int8"
    assert ("triton_final_response" in answer.parameters) is is_end
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("y", "FP32", [1, 2]),
        ("z", "BYTES", [2]),
    ]
    assert list(answer.raw_output_contents) == [np.array([1, 2], "<f4").tobytes(), b"\2\0\0\0ab\0\0\0\0"]
    assert not any(each.HasField("contents") for each in answer.outputs)


def test_large_messages_are_left_to_a_thread_where_they_cost_time() -> None:
    raw = Request(inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}], raw_input_contents=[b"1234"])
    text = Request(inputs=[{"name": "x", "datatype": "BYTES", "shape": [1]}], raw_input_contents=[b"1234"])
    typed = Request(inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}])
    assert [messages.parses_quickly(each, 100) for each in (raw, text, typed)] == [True, True, True]
    assert [messages.parses_quickly(each, 10**6) for each in (raw, text, typed)] == [True, False, False]
