"""Tensors of REST requests: a line of what comes with the body, as JSON, then the body."""

import json
from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

import numpy as np
import orjson

from app.engines.engine import OIP_NAMES, Array, TensorSpec
from app.errors import OctetError
from app.inference.messages import parse, parses_quickly, render
from app.inference.request import InferenceRequest
from app.inference.response import OutputTensor
from app.inference.tensors import classification
from tests.fuzz.responses import bits, response_of
from tests.fuzz.targets import Mutate, check_refusal

#: What the model may take, by the number in the first line; it matters to bodies without JSON alone.
SPECS: tuple[tuple[TensorSpec, ...], ...] = (
    (TensorSpec("x", "FP32", (-1, 4)),),
    (TensorSpec("x", "BYTES", (-1, 1)),),
    (TensorSpec("x", "FP16", (-1, -1)),),
    (TensorSpec("x", "BOOL", (2, -1)),),
    (TensorSpec("x", "INT64", (-1, 0, -1)),),
    (TensorSpec("x", "BYTES", (2, 3)),),
    (TensorSpec("x", "UINT8", (-1, -1, -1)),),
    (TensorSpec("x", "FP64", ()),),
    (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("y", "INT8", (-1,))),
)
_WORDS = (
    *("inputs", "outputs", "parameters", "name", "shape", "datatype", "data", "id", "binary_data", "binary_data_size"),
    *("binary_data_output", "classification", "priority", "timeout", "sequence_id", "sequence_start", "triton_x"),
)
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        4,
        16,
        32,
        -1,
        255,
        2**31,
        2**62,
        2**63,
        2**64 - 1,
        0.5,
        1e300,
        -0.0,
        "",
        "x",
        "\0",
    ),
    *([], {}, [[]], [1, 2, 3, 4], [0], [2**40, 2**40, 0], ["a", "é"], [True], [1.5, None]),
    *("BF16", "BOOL", "BYTES", "FP16", "FP32", "FP64", "INT8", "INT64", "UINT8", "UINT16", "UINT64"),
)


def check(data: bytes) -> None:
    """What is decoded is the same after it was encoded, in either form, and decoded again."""
    line, _, body = data.partition(b"\n")
    header_length, specs = _read(line)
    content = memoryview(body)
    parses_quickly(len(content), header_length, specs)
    try:
        request = parse(content, header_length, specs)
    except OctetError as refusal:
        check_refusal(refusal)
        return
    arrays = request.arrays
    _check_encoding(request, binary=True)
    if all(_has_json(array) for array in arrays):
        _check_encoding(request, binary=False)
    for output in request.header.outputs:
        if output.classification > 0:
            for array in arrays:
                _check_classes(array, output.classification)


def _read(line: bytes) -> tuple[str | None, Sequence[TensorSpec]]:
    try:
        length, number = json.loads(line)
        return (None if length is None else str(length)), SPECS[int(number) % len(SPECS)]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return line.decode("latin-1") or None, SPECS[0]


def _has_json(array: Array) -> bool:
    if array.dtype == np.object_:
        return all(_is_text(element) for element in array.ravel())
    # NaN and infinities become null, and FP16 has no JSON form.
    return array.dtype != np.float16 and (array.dtype.kind != "f" or bool(np.isfinite(array).all()))


def _is_text(element: bytes) -> bool:
    try:
        element.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_encoding(request: InferenceRequest, *, binary: bool) -> None:
    outputs = [
        OutputTensor(tensor.name, OIP_NAMES[array.dtype.newbyteorder("=")], array, binary)
        for tensor, array in zip(request.header.inputs, request.arrays, strict=True)
    ]
    pieces, header_length = render(response_of(outputs, request.header.id))
    content = b"".join(pieces)
    answer = orjson.loads(content[:header_length])
    # Tensors look the same in requests and answers.
    asked = orjson.dumps({"id": answer.get("id"), "inputs": answer["outputs"]})
    rest = content[header_length:] if header_length is not None else b""
    again = parse(memoryview(asked + rest), str(len(asked)), ())
    assert again.header.id == request.header.id
    for before, after in zip(request.header.inputs, again.header.inputs, strict=True):
        assert after.name == before.name
    for old, new in zip(request.arrays, again.arrays, strict=True):
        assert new.shape == old.shape
        assert new.dtype == old.dtype.newbyteorder("=")
        assert bits(new) == bits(old)


def _check_classes(array: Array, k: int) -> None:
    if array.dtype.kind not in "iuf":
        return
    classes = classification(array, k, ["cat", "dog"])
    assert classes.shape == (*array.shape[:-1], min(k, array.shape[-1] if array.ndim else 1))


def mutated(data: bytes, random: Random, mutate: Mutate) -> bytes:
    """Change the JSON, the bytes that follow it, or what is said of both."""
    line, _, body = data.partition(b"\n")
    try:
        length, number = json.loads(line)
        size = len(body) if length is None else int(length)
        message = orjson.loads(body[:size])
    except (ValueError, TypeError, OverflowError, RecursionError):
        return mutate(data)
    rest = body[size:]
    choice = random.randrange(8)
    if choice == 0:
        number = random.randrange(len(SPECS))
    elif choice == 1 and rest:
        rest = mutate(rest)
        _announce(message, len(rest))
    else:
        for _ in range(random.choice((1, 1, 2, 3))):
            message = _changed(message, random)
    written = orjson.dumps(message)
    if rest or length is not None:
        length = len(written) if random.random() < 0.9 else random.choice((0, len(written) + 1, len(body), -1))
    return json.dumps([length, number]).encode() + b"\n" + written + rest


def _announce(message: Any, size: int) -> None:
    """Have the first binary tensor be of `size` bytes, if there is one."""
    inputs = message.get("inputs") if isinstance(message, dict) else None
    for each in inputs if isinstance(inputs, list) else []:
        parameters = each.get("parameters") if isinstance(each, dict) else None
        if isinstance(parameters, dict) and "binary_data_size" in parameters:
            parameters["binary_data_size"] = size
            return


def _changed(value: Any, random: Random) -> Any:
    """`value` with one change somewhere in it."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(sorted(value))
        if random.random() < 0.1:
            del value[key]
        elif random.random() < 0.2:
            value[random.choice(_WORDS)] = deepcopy(random.choice(_VALUES))
        else:
            value[key] = _changed(value[key], random)
        return value
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        choice = random.randrange(6)
        if choice == 0:
            del value[place]
        elif choice == 1:
            value.insert(place, value[place])
        else:
            value[place] = _changed(value[place], random)
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and random.random() < 0.5:
        return max(-(2**63), min(2**64 - 1, random.choice((value + 1, value - 1, value * 2, -value))))
    return deepcopy(random.choice(_VALUES))
