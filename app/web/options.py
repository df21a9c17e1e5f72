"""Fields of a form, from the JSON schema of a method's options: the one that the API's document shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.contracts.methods import Method
from app.contracts.options import EvaluateOptions, Options

Kind = Literal["number", "integer", "checkbox", "choice", "text", "lines"]


@dataclass(frozen=True)
class Field:
    """One option. `default` is as the field shows it, empty for none; bounds are what `min` and `max` say."""

    name: str
    label: str
    kind: Kind
    default: str
    hint: str
    type: str
    choices: Sequence[str] = ()
    low: str = ""
    high: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Group:
    """Fields that belong together; `plain` ones are seen at once, the others when asked for."""

    title: str
    plain: bool
    fields: Sequence[Field]


def groups(method: Method) -> list[Group]:
    """The options of `method`: its budget first, then what is its own, then how it is evaluated."""
    schema = method.options.model_json_schema()
    evaluation, budget = EvaluateOptions.model_fields.keys(), Options.model_fields.keys()
    shared = {
        "Budget": budget - evaluation if issubclass(method.options, Options) else frozenset[str](),
        "Evaluation": evaluation,
    }
    fields = [_field(name, spec) for name, spec in schema["properties"].items()]
    own = [field for field in fields if not any(field.name in names for names in shared.values())]
    found = [
        Group("Budget", True, [field for field in fields if field.name in shared["Budget"]]),
        Group("Method", False, own),
        Group("Evaluation", False, [field for field in fields if field.name in shared["Evaluation"]]),
    ]
    return [group for group in found if group.fields]


def _field(name: str, spec: Mapping[str, Any]) -> Field:
    kinds = [part for part in spec.get("anyOf", [spec]) if part.get("type") != "null"]
    core: Mapping[str, Any] = kinds[0]
    return Field(
        name=name,
        label=name.replace("_", " ").capitalize(),
        kind=_kind(core),
        default=_text(spec.get("default")),
        hint=spec.get("description", ""),
        type="list" if core.get("type") == "array" else core.get("type", "string"),
        choices=[_text(choice) for choice in core.get("enum", ())],
        low=_text(core.get("minimum", core.get("exclusiveMinimum"))),
        high=_text(core.get("maximum", core.get("exclusiveMaximum"))),
        optional=len(kinds) < len(spec.get("anyOf", kinds)),
    )


_KINDS: dict[str, Kind] = {"number": "number", "integer": "integer", "boolean": "checkbox", "array": "lines"}


def _kind(spec: Mapping[str, Any]) -> Kind:
    return "choice" if "enum" in spec else _KINDS.get(spec.get("type", ""), "text")


def _text(value: Any) -> str:
    """As a field shows it, and scripts compare it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e15 else str(value)
