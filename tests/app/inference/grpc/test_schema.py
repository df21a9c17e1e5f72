"""Our description of the interface against the one that Triton's client library was generated from."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

from app.inference.grpc import schema

CONFIG = dict(model_config_pb2.DESCRIPTOR.message_types_by_name)
PUBLISHED = CONFIG | dict(service_pb2.DESCRIPTOR.message_types_by_name)
OURS = {message.name: schema._pool.FindMessageTypeByName(f"inference.{message.name}")
        for message in schema.DESCRIPTION.message_type}  # fmt: skip


def shape(field: FieldDescriptor) -> tuple[Any, ...]:
    """All of a field that the wire, or a client, can see."""
    named = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return field.number, field.type, field.is_repeated, named.full_name if named else None, oneof


def check_message(ours: Any, published: Any) -> None:
    assert ours.full_name == published.full_name
    assert ours.GetOptions().map_entry == published.GetOptions().map_entry
    theirs = {field.name: shape(field) for field in published.fields}
    for field in ours.fields:
        assert shape(field) == theirs[field.name], f"{ours.full_name}.{field.name}"
    for nested in ours.nested_types:
        check_message(nested, published.nested_types_by_name[nested.name])


@pytest.mark.parametrize("name", OURS)
def test_each_message_is_as_published(name: str) -> None:
    check_message(OURS[name], PUBLISHED[name])


def test_only_what_is_said_to_be_left_out_is() -> None:
    for name in OURS.keys() - CONFIG.keys():
        assert {field.name for field in OURS[name].fields} == {field.name for field in PUBLISHED[name].fields}
    missing = service_pb2.DESCRIPTOR.message_types_by_name.keys() - OURS.keys()
    assert all("SharedMemory" in name for name in missing), missing


def test_each_datatype_has_its_published_number() -> None:
    (ours,) = schema.DESCRIPTION.enum_type
    published = model_config_pb2.DESCRIPTOR.enum_types_by_name[ours.name]
    assert [(value.name, value.number) for value in ours.value] == [
        (value.name, value.number) for value in published.values
    ]


def test_the_calls_are_those_of_the_published_service() -> None:
    (published,) = service_pb2.DESCRIPTOR.services_by_name.values()
    assert published.full_name == schema.SERVICE
    theirs = {
        method.name: (method.input_type.name, method.output_type.name, method.client_streaming, method.server_streaming)
        for method in published.methods
        if "SharedMemory" not in method.name
    }
    ours = {
        method.name: (
            method.request.DESCRIPTOR.name,
            method.response.DESCRIPTOR.name,
            method.streams,
            method.streams,
        )
        for method in schema.METHODS.values()
    }
    assert ours == theirs


def test_messages_of_one_are_read_by_the_other() -> None:
    request = schema.METHODS["ModelInfer"].request(model_name="m", raw_input_contents=[b"1"])
    request.parameters["p"].double_param = 0.5
    there = service_pb2.ModelInferRequest.FromString(request.SerializeToString())
    assert (there.model_name, there.raw_input_contents, there.parameters["p"].double_param) == ("m", [b"1"], 0.5)
    assert type(request).FromString(there.SerializeToString()) == request


def test_what_is_read_is_what_the_source_says(tmp_path: Path) -> None:
    """`make protocol` was run after the last change."""
    folder = Path(schema.__file__).parent
    compiled = tmp_path / "compiled"
    arguments = [f"--proto_path={folder}", f"--descriptor_set_out={compiled}", "open_inference.proto"]
    # In a process of its own: beside the compiler's library, those of others cannot be loaded.
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
    assert list(FileDescriptorSet.FromString(compiled.read_bytes()).file) == [schema.DESCRIPTION]
