"""Changes of protobuf messages by their schema, so that most of what comes out can still be parsed."""

from collections.abc import Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.fuzz.targets import Mutate

_INTEGERS = (0, 1, 2, 3, 7, 8, 10, 16, 17, 21, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.5, 1e-45, 3.4e38, float("inf"), float("nan"))
_TEXTS = (
    "",
    "x",
    "y",
    "w",
    "weight",
    "ai.onnx",
    "ai.onnx.ml",
    "com.microsoft",
    "If",
    "Loop",
    "Constant",
    "../x",
    "é\0",
)

_UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}
_SIGNED = {FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64}


def change(message: Message, random: Random, mutate: Mutate) -> None:
    """Change one field, anywhere in `message`."""
    messages = list(_messages(message))
    holder = random.choice(messages)
    # Fields that are there are as likely as all others together.
    there = [field for field, _ in holder.ListFields()]
    field = random.choice(there if there and random.random() < 0.6 else holder.DESCRIPTOR.fields)
    if _is_map(field):
        _change_map(getattr(holder, field.name), field, random, mutate)
    elif field.is_repeated:
        _change_list(holder, field, messages, random, mutate)
    elif random.random() < 0.2:
        holder.ClearField(field.name)
    elif field.message_type is not None:
        _fill(getattr(holder, field.name), messages, random)
    else:
        setattr(holder, field.name, _scalar(field, getattr(holder, field.name), random, mutate))


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if _is_map(field):
            if field.message_type.fields_by_name["value"].message_type is not None:
                for each in value.values():
                    yield from _messages(each)
        else:
            for each in value if field.is_repeated else [value]:
                yield from _messages(each)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _change_map(entries: Any, field: FieldDescriptor, random: Random, mutate: Mutate) -> None:
    value = field.message_type.fields_by_name["value"]
    key = random.choice([*entries, random.choice(_TEXTS), "binary_data_size", "classification", "timeout"])
    if key in entries and random.random() < 0.3:
        del entries[key]
    elif value.message_type is not None:
        entries[key].SetInParent()
        change(entries[key], random, mutate)
    else:
        entries[key] = _scalar(value, value.default_value, random, mutate)


def _change_list(
    holder: Message, field: FieldDescriptor, messages: list[Message], random: Random, mutate: Mutate
) -> None:
    values = getattr(holder, field.name)
    place = random.randrange(len(values)) if values else 0
    choice = random.randrange(5)
    if choice == 0 and values:
        del values[place]
    elif choice == 1 and values and field.message_type is not None:
        values.add().CopyFrom(values[place])
    elif choice == 2 and len(values) > 1 and field.message_type is not None:
        _swap(values[place], values[place - 1])
    elif field.message_type is not None:
        _fill(values.add(), messages, random)
    elif values and choice == 3:
        values[place] = _scalar(field, values[place], random, mutate)
    else:
        values.append(_scalar(field, _nothing(field), random, mutate))


def _swap(one: Message, other: Message) -> None:
    kept = type(one)()
    kept.CopyFrom(one)
    one.CopyFrom(other)
    other.CopyFrom(kept)


def _nothing(field: FieldDescriptor) -> Any:
    return {FieldDescriptor.TYPE_BYTES: b"", FieldDescriptor.TYPE_STRING: ""}.get(field.type, 0)


def _fill(target: Message, messages: list[Message], random: Random) -> None:
    """Have `target` be as another of its kind is; where it is the only one, leave it empty, and there."""
    target.SetInParent()
    alike = [each for each in messages if each.DESCRIPTOR is target.DESCRIPTOR and each is not target]
    if alike:
        # By way of bytes: what is copied may hold the place that it is copied to.
        target.ParseFromString(random.choice(alike).SerializePartialToString())


def _scalar(field: FieldDescriptor, now: Any, random: Random, mutate: Mutate) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return random.choice(field.enum_type.values).number
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice(_FLOATS)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return mutate(now)
        old = now if isinstance(now, str) else ""
        return random.choice((*_TEXTS, old + old, old[:-1], mutate(old.encode()).decode(errors="ignore")))
    number = random.choice((*_INTEGERS, now + 1, now - 1, now * 2, -now - 1))
    if kind in _UNSIGNED:
        return number % 2 ** _UNSIGNED[kind]
    bits = _SIGNED[kind]
    return (number + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
