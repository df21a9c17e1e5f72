"""The messages and calls of `open_inference.proto`, as Python classes and a table.

No code is generated, so any protobuf runtime will do. The classes live in a descriptor pool of their own: in the common
one the package `inference` belongs to whichever client library registers it first.

What is read is a part of the language: one statement a line; messages, enums, oneofs, maps and services; no options,
imports or comments behind a statement.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.message import Message

_FILE = "open_inference.proto"
_SCALARS = {name.removeprefix("TYPE_").lower(): number for name, number in FieldDescriptorProto.Type.items()}

Holder = FileDescriptorProto | DescriptorProto | EnumDescriptorProto | ServiceDescriptorProto
MessageClass = type[Any]


@dataclass(frozen=True)
class Method:
    """One call of the service. `streams`: requests and answers come in any number, else one of each."""

    name: str
    request: MessageClass
    response: MessageClass
    streams: bool


class _Reader:
    """Statements in, a file's descriptor out. `holders` are the blocks that the line stands in; a oneof is none."""

    def __init__(self) -> None:
        self.file = FileDescriptorProto(name=_FILE)
        self._holders: list[Holder] = [self.file]
        self._oneof: int | None = None

    def read(self, line: str) -> None:
        for pattern, statement in _STATEMENTS:
            if match := pattern.fullmatch(line):
                statement(self, **match.groupdict())
                return
        raise ValueError(f"{_FILE}: this is not understood: {line}")

    def syntax(self, value: str) -> None:
        self.file.syntax = value

    def package(self, value: str) -> None:
        self.file.package = value

    def message(self, name: str, empty: str | None) -> None:
        holder = self._holders[-1]
        made = holder.message_type if isinstance(holder, FileDescriptorProto) else self._innermost().nested_type
        self._holders.append(made.add(name=name))
        if empty:
            self._holders.pop()

    def enum(self, name: str) -> None:
        self._holders.append(self.file.enum_type.add(name=name))

    def service(self, name: str) -> None:
        self._holders.append(self.file.service.add(name=name))

    def oneof(self, name: str) -> None:
        self._oneof = len(self._innermost().oneof_decl)
        self._innermost().oneof_decl.add(name=name)

    def end(self) -> None:
        if self._oneof is None:
            self._holders.pop()
        self._oneof = None

    def rpc(self, name: str, request: str, response: str, asks: str | None, answers: str | None) -> None:
        service = self._holders[-1]
        assert isinstance(service, ServiceDescriptorProto)
        service.method.add(
            name=name,
            input_type=request,
            output_type=response,
            client_streaming=bool(asks),
            server_streaming=bool(answers),
        )

    def value(self, name: str, number: str) -> None:
        enum = self._holders[-1]
        assert isinstance(enum, EnumDescriptorProto)
        enum.value.add(name=name, number=int(number))

    def field(self, kind: str, name: str, number: str, repeated: str | None = None) -> None:
        field = _add_field(self._innermost(), kind, name, int(number), repeated=bool(repeated))
        if self._oneof is not None:
            field.oneof_index = self._oneof

    def map(self, key: str, kind: str, name: str, number: str) -> None:
        """As the wire has it: pairs, each a message of its own."""
        pair = name.title().replace("_", "") + "Entry"
        _add_field(self._innermost(), pair, name, int(number), repeated=True)
        entry = self._innermost().nested_type.add(name=pair)
        entry.options.map_entry = True
        _add_field(entry, key, "key", 1)
        _add_field(entry, kind, "value", 2)

    def _innermost(self) -> DescriptorProto:
        holder = self._holders[-1]
        assert isinstance(holder, DescriptorProto)
        return holder


def _add_field(
    message: DescriptorProto, kind: str, name: str, number: int, *, repeated: bool = False
) -> FieldDescriptorProto:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type_name = kind
    return field


_STATEMENTS: tuple[tuple[re.Pattern[str], Callable[..., None]], ...] = tuple(
    (re.compile(pattern), statement)
    for pattern, statement in (
        (r'syntax = "(?P<value>\w+)";', _Reader.syntax),
        (r"package (?P<value>\w+);", _Reader.package),
        (r"message (?P<name>\w+) \{(?P<empty>\})?", _Reader.message),
        (r"enum (?P<name>\w+) \{", _Reader.enum),
        (r"service (?P<name>\w+) \{", _Reader.service),
        (r"oneof (?P<name>\w+) \{", _Reader.oneof),
        (r"\}", _Reader.end),
        (
            r"rpc (?P<name>\w+)\((?P<asks>stream )?(?P<request>\w+)\)"
            r" returns \((?P<answers>stream )?(?P<response>\w+)\);",
            _Reader.rpc,
        ),
        (r"map<(?P<key>\w+), (?P<kind>\w+)> (?P<name>\w+) = (?P<number>\d+);", _Reader.map),
        (r"(?P<repeated>repeated )?(?P<kind>\w+) (?P<name>\w+) = (?P<number>\d+);", _Reader.field),
        (r"(?P<name>[A-Z0-9_]+) = (?P<number>\d+);", _Reader.value),
    )
)


def described(text: str) -> FileDescriptorProto:
    """The descriptor of a file of `text`. Raises `ValueError` for a statement that is not of the part that is read."""
    reader = _Reader()
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("//"):
            reader.read(line)
    return reader.file


DESCRIPTION = described(resources.files(__package__).joinpath(_FILE).read_text())

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
