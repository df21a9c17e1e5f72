"""The messages and calls of `open_inference.proto`, as Python classes and a table.

What is read is the compiled description beside it (`make protocol`), so any protobuf runtime will do. The classes live
in a descriptor pool of their own: in the common one the package `inference` belongs to whichever client library
registers it first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from app.errors import Invalid

MessageClass = type[Any]


@dataclass(frozen=True)
class Method:
    """One call of the service. `streams`: requests and answers come in any number, else one of each."""

    name: str
    request: MessageClass
    response: MessageClass
    streams: bool

    def parsed(self, raw: bytes) -> Any:
        """The request that these bytes are; raises `Invalid` where they are none."""
        try:
            return self.request.FromString(raw)
        # Which of them text that is not UTF-8 raises depends on the protobuf runtime.
        except (DecodeError, UnicodeDecodeError) as error:
            raise Invalid("failed to parse the request: it is no message of this call") from error


(DESCRIPTION,) = FileDescriptorSet.FromString(
    resources.files(__package__).joinpath("open_inference.binpb").read_bytes()
).file

_pool = descriptor_pool.DescriptorPool()
_pool.Add(DESCRIPTION)


def _message_class(name: str) -> MessageClass:
    made: type[Message] = message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))
    return made


SERVICE = f"{DESCRIPTION.package}.{DESCRIPTION.service[0].name}"

#: The service's calls by their names.
METHODS: Mapping[str, Method] = {
    method.name: Method(
        method.name,
        _message_class(method.input_type.full_name),
        _message_class(method.output_type.full_name),
        method.client_streaming,
    )
    for method in _pool.FindServiceByName(SERVICE).methods
}
