"""Tensors of gRPC requests: one `ModelInferRequest`."""

from random import Random

from app.engines.engine import OIP_NAMES
from app.errors import Invalid, OctetError
from app.inference.grpc.messages import parse, parses_quickly, render
from app.inference.grpc.schema import METHODS
from app.inference.response import OutputTensor
from tests.fuzz.protobufs import change
from tests.fuzz.responses import bits, response_of
from tests.fuzz.targets import Mutate, check_refusal

_INFER = METHODS["ModelInfer"]


def check(data: bytes) -> None:
    """What is decoded is the same after it was encoded and decoded again."""
    try:
        message = _INFER.parsed(data)
        parses_quickly(message, len(data))
        request = parse(message)
    except OctetError as refusal:
        check_refusal(refusal)
        return
    outputs = [
        OutputTensor(tensor.name, OIP_NAMES[array.dtype.newbyteorder("=")], array, True)
        for tensor, array in zip(request.header.inputs, request.arrays, strict=True)
    ]
    answer = render(response_of(outputs, request.header.id))
    asked = _INFER.request(id=answer.id, raw_input_contents=answer.raw_output_contents)
    for output in answer.outputs:
        asked.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    again = parse(asked)
    assert again.header.id == request.header.id
    for before, after in zip(request.header.inputs, again.header.inputs, strict=True):
        assert after.name == before.name
    for old, new in zip(request.arrays, again.arrays, strict=True):
        assert new.shape == old.shape
        assert new.dtype.newbyteorder("=") == old.dtype.newbyteorder("=")
        assert bits(new) == bits(old)


def mutated(data: bytes, random: Random, mutate: Mutate) -> bytes:
    try:
        message = _INFER.parsed(data)
    except Invalid:
        return mutate(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        change(message, random, mutate)
    written: bytes = message.SerializeToString()
    return written
