"""Every tensor, node and graph of a model, wherever ONNX's schema lets one hide.

Loaders have been fooled by tensors that a check forgot: sparse ones, those in attributes, in functions, in
training information. So which fields to follow is not listed here but read off the schema itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

#: What a walk is for; it follows any field from which one of these can be reached.
_SOUGHT = frozenset({TensorProto.DESCRIPTOR.full_name, NodeProto.DESCRIPTOR.full_name})


@dataclass(frozen=True, slots=True)
class Found:
    """A message of the model, and the messages that it lies in, outermost (the model) first."""

    message: Message
    ancestors: tuple[Message, ...]

    @property
    def depth(self) -> int:
        """In how many subgraphs, graphs that are attributes of nodes, it lies one inside the other."""
        return sum(
            isinstance(inner, GraphProto) and isinstance(outer, AttributeProto)
            for outer, inner in pairwise(self.ancestors)
        )

    @property
    def is_initializer(self) -> bool:
        """Whether a graph holds it directly, as its initializer."""
        return isinstance(self.ancestors[-1], GraphProto)

    @property
    def in_sparse_tensor(self) -> bool:
        return isinstance(self.ancestors[-1], SparseTensorProto)

    @property
    def node(self) -> NodeProto | None:
        """The innermost node that it lies in, if any."""
        return next((a for a in reversed(self.ancestors) if isinstance(a, NodeProto)), None)


def walk(model: ModelProto) -> Iterator[Found]:
    """All messages of `model` that are, or may hold, tensors or nodes, each before what it holds.

    What a tensor holds is not followed. Protobuf's own limit on nesting bounds the recursion.
    """
    return _walk(Found(model, ()))


def _walk(found: Found) -> Iterator[Found]:
    yield found
    message = found.message
    inside = (*found.ancestors, message)
    for name, repeated in _fields(message.DESCRIPTOR):
        if repeated:
            for child in getattr(message, name):
                yield from _walk(Found(child, inside))
        elif message.HasField(name):
            yield from _walk(Found(getattr(message, name), inside))


@cache
def _fields(descriptor: Descriptor) -> tuple[tuple[str, bool], ...]:
    """The fields of a message type to follow, each with whether it is repeated."""
    if descriptor.full_name == TensorProto.DESCRIPTOR.full_name:
        return ()
    return tuple(
        (field.name, field.is_repeated)
        for field in descriptor.fields
        if field.message_type is not None and _reaches(field.message_type, frozenset())
    )


def _reaches(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    if descriptor.full_name in _SOUGHT:
        return True
    if descriptor.full_name in seen:
        return False
    seen |= {descriptor.full_name}
    return any(field.message_type is not None and _reaches(field.message_type, seen) for field in descriptor.fields)
