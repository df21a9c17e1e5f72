"""Tensors of gRPC requests: one `ModelInferRequest`."""

from random import Random

from google.protobuf.message import DecodeError

from app.engines.engine import OIP_NAMES
from app.errors import OctetError
from app.inference.dataplane import OutputTensor
from app.inference.grpc.messages import parse, parses_at_once, render
from app.inference.grpc.schema import METHODS
from tests.fuzz.protobufs import change
from tests.fuzz.responses import bits, response_of
from tests.fuzz.targets import Mutate, check_refusal

_Request = METHODS["ModelInfer"].request


def check(data: bytes) -> None:
    """What is decoded is the same after it was encoded and decoded again."""
    message = _Request()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        return  # The library refuses it before it gets here.
    parses_at_once(message, len(data))
    try:
        request = parse(message)
    except OctetError as refusal:
        check_refusal(refusal)
        return
    outputs = [
        OutputTensor(tensor.name, OIP_NAMES[tensor.array.dtype.newbyteorder("=")], tensor.array, True)
        for tensor in request.inputs
    ]
    answer = render(response_of(outputs, request.id))
    asked = _Request(id=answer.id, raw_input_contents=answer.raw_output_contents)
    for output in answer.outputs:
        asked.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    again = parse(asked)
    assert again.id == request.id
    for before, after in zip(request.inputs, again.inputs, strict=True):
        assert (after.name, after.array.shape) == (before.name, before.array.shape)
        assert after.array.dtype.newbyteorder("=") == before.array.dtype.newbyteorder("=")
        assert bits(after.array) == bits(before.array)


def mutated(data: bytes, random: Random, mutate: Mutate) -> bytes:
    message = _Request()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        return mutate(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        change(message, random, mutate)
    written: bytes = message.SerializeToString()
    return written
