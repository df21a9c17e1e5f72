"""What is kept of JSON headers, and that it never shows in an answer."""

import json
from typing import Any

import numpy as np
import pytest

from app.engines import TensorSpec
from app.engines.engine import Array
from app.errors import Invalid
from app.experiments.live import Reason
from app.inference import messages
from app.inference.request import RequestedOutput, RequestHeader, TensorHeader
from app.inference.response import InferenceResponse, OutputTensor
from app.inference.served_variant import ServedVariant
from app.inference.validation import Plan
from app.serving.pool import Artifact

SPECS = (TensorSpec("x", "FP32", (-1, 2)),)


def body(array: Array, **changes: Any) -> tuple[bytes, str]:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(array.shape)}
    tensor |= {"parameters": {"binary_data_size": array.nbytes}} | changes
    header = json.dumps({"inputs": [tensor]}).encode()
    return header + array.tobytes(), str(len(header))


def test_a_header_that_comes_again_is_parsed_once_and_the_values_are_each_requests_own() -> None:
    arrays = [np.full((1, 2), value, np.float32) for value in (1, 2)]
    first, second = (messages.parse(*body(array), SPECS) for array in arrays)
    assert first.header is second.header
    assert first.header.is_cached
    for parsed, array in zip((first, second), arrays, strict=True):
        np.testing.assert_array_equal(parsed.arrays[0], array)
        assert not parsed.arrays[0].flags.writeable


@pytest.mark.parametrize("cut", [slice(-1), slice(-4), slice(-8)])
def test_a_header_that_was_right_before_does_not_make_a_short_body_right(cut: slice) -> None:
    whole, length = body(np.ones((1, 2), np.float32))
    messages.parse(whole, length, SPECS)
    with pytest.raises(Invalid):
        messages.parse(whole[cut], length, SPECS)
    with pytest.raises(Invalid, match="belong to no input"):
        messages.parse(whole + b"\0", length, SPECS)


def test_a_size_that_is_not_the_shapes_is_refused_each_time() -> None:
    wrong = body(np.ones((1, 2), np.float32), shape=[1, 3])
    for _ in range(2):
        with pytest.raises(Invalid, match="unexpected size"):
            messages.parse(*wrong, SPECS)


def test_neither_long_headers_nor_those_of_json_alone_are_kept() -> None:
    kept = messages._cached.cache_info().currsize
    long = body(np.ones((1, 2), np.float32), note="a" * 3000)
    assert not messages.parse(*long, SPECS).header.is_cached
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    assert not messages.parse(json.dumps({"inputs": [tensor]}).encode(), None, SPECS).header.is_cached
    assert messages._cached.cache_info().currsize == kept


def test_no_more_than_so_many_headers_are_kept() -> None:
    for number in range(1500):
        messages.parse(*body(np.ones((1, 2), np.float32), note=number), SPECS)
    assert messages._cached.cache_info().currsize <= 1024


def response(plan: Plan, array: Array, **fields: Any) -> InferenceResponse:
    variant = ServedVariant("m", "int8", 2, (2,), Artifact("onnxruntime", "digest"), SPECS, SPECS, None, True)
    return InferenceResponse(variant, [OutputTensor("y", "FP32", array, True)], plan=plan, **fields)


def test_json_that_is_kept_is_that_of_the_answers_shapes_and_experiment() -> None:
    plan = Plan(RequestHeader((TensorHeader("x", "FP32", (1, 2)),)), [RequestedOutput("y", True)])
    for rows in [*range(1, 40), *range(1, 40)]:
        array = np.full((rows, 2), rows, np.float32)
        for fields in ({}, {"experiment": "e", "reason": Reason.hash}):
            kept, length = messages.render(response(plan, array, **fields))
            made = response(plan, array, **fields)
            made.plan = None
            assert (b"".join(kept), length) == (b"".join(messages.render(made)[0]), messages.render(made)[1])
    assert len(plan.rendered) <= 16
