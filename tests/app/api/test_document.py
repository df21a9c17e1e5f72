"""The OpenAPI document: what Swagger UI, generated clients and readers go by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from app.main import create_app
from app.settings import Settings

Document = dict[str, Any]

#: What can go wrong with these is that nothing answers at all.
NEVER_FAIL = {"live"}


@dataclass(frozen=True)
class Operation:
    """One call: `says` is what the document says of it."""

    path: str
    method: str
    says: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    def bodies(self) -> Iterator[Mapping[str, Any]]:
        """The media types of its JSON bodies: of the request, and of all answers."""
        for holder in (self.says.get("requestBody", {}), *self.says["responses"].values()):
            for media_type, content in holder.get("content", {}).items():
                if media_type.endswith("json"):
                    yield content


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    # Not started: it says the same.
    client = TestClient(create_app(Settings(home=tmp_path_factory.mktemp("home"))), base_url="http://localhost")
    said: Document = client.get("/openapi.json").json()
    return said


@pytest.fixture(scope="module")
def operations(document: Document) -> list[Operation]:
    return [
        Operation(path, method, says)
        for path, methods in document["paths"].items()
        for method, says in methods.items()
        if method != "parameters"
    ]


def resolved(document: Document, holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """`holder`, or what it refers to."""
    found: Any = holder
    while "$ref" in found:
        place = found["$ref"].removeprefix("#/").split("/")
        found = document
        for part in place:
            found = found[part]
    return found  # type: ignore[no-any-return]


def examples_of(document: Document, content: Mapping[str, Any]) -> list[Any]:
    """All that a media type shows, at itself or at its schema."""
    named = [resolved(document, each)["value"] for each in content.get("examples", {}).values()]
    single = [content["example"]] if "example" in content else []
    schema = content.get("schema", {})
    typed = (resolved(document, each).get("examples", []) for each in schema.get("anyOf", [schema]))
    return [*named, *single, *chain.from_iterable(typed)]


def faults(document: Document, schema: Mapping[str, Any], example: Any) -> list[str]:
    whole = {**schema, "components": document["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(example)]


def test_each_call_says_what_it_does(operations: list[Operation]) -> None:
    silent = [str(each) for each in operations if not (each.says.get("summary") and each.says.get("description"))]
    assert silent == []
    long = [str(each) for each in operations if len(each.says["summary"]) > 60 or each.says["summary"].endswith(".")]
    assert long == []


def test_each_call_has_a_name_of_its_own_that_no_path_is_part_of(operations: list[Operation]) -> None:
    names = [each.says["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert [name for name in names if not name.isidentifier() or "api_v1" in name] == []


def test_calls_are_sorted_into_sections_that_are_described(document: Document, operations: list[Operation]) -> None:
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {str(each): each.says["tags"] for each in operations if not {*each.says["tags"]} <= described} == {}
    assert described == {tag for each in operations for tag in each.says["tags"]}


def test_each_parameter_is_described_and_those_of_paths_have_examples(operations: list[Operation]) -> None:
    parameters = [(str(each), parameter) for each in operations for parameter in each.says.get("parameters", [])]
    assert [(call, one["name"]) for call, one in parameters if not one.get("description")] == []
    missing = {one["name"] for _, one in parameters if one["required"] and "example" not in one}
    assert missing == {"job_id", "experiment_id", "key_id"}


def test_each_form_field_is_described(document: Document, operations: list[Operation]) -> None:
    undescribed = [
        (str(each), name)
        for each in operations
        for media_type, content in each.says.get("requestBody", {}).get("content", {}).items()
        if media_type == "multipart/form-data"
        for name, field in resolved(document, content["schema"])["properties"].items()
        if not field.get("description")
    ]
    assert undescribed == []


def test_what_can_fail_says_how(operations: list[Operation]) -> None:
    carefree = {each.says["operationId"] for each in operations if not errors_of(each)}
    assert carefree == NEVER_FAIL


def errors_of(operation: Operation) -> dict[str, Any]:
    return {status: answer for status, answer in operation.says["responses"].items() if status >= "400"}


def test_errors_have_the_form_that_they_are_sent_in(operations: list[Operation]) -> None:
    for each in operations:
        form = ["application/json"] if each.path.startswith("/v2") else ["application/problem+json"]
        for status, answer in errors_of(each).items():
            assert list(answer["content"]) == form, f"{each}: {status}"
            assert answer["description"] not in ("", "Validation Error"), f"{each}: {status}"


def test_each_json_body_that_is_sent_has_an_example(document: Document, operations: list[Operation]) -> None:
    bare = [
        str(each)
        for each in operations
        if (content := each.says.get("requestBody", {}).get("content", {}).get("application/json"))
        and not examples_of(document, content)
    ]
    assert bare == []


def test_examples_are_what_their_schemas_allow(document: Document, operations: list[Operation]) -> None:
    found = [
        (str(each), faults(document, content.get("schema", {}), example))
        for each in operations
        for content in each.bodies()
        for example in examples_of(document, content)
    ]
    assert len(found) > 100
    assert [(call, wrong) for call, wrong in found if wrong] == []


def test_schemas_are_valid(document: Document) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_calls_that_stream_say_so(operations: list[Operation]) -> None:
    streams = [each for each in operations if each.path.endswith("/events")]
    assert len(streams) >= 2
    for each in streams:
        content = each.says["responses"]["200"]["content"]
        assert list(content) == ["text/event-stream"]
        assert set(content["text/event-stream"]["itemSchema"]["required"]) == {"id", "event", "data"}
        # That would be said of each event, by those who know streams.
        assert "schema" not in content["text/event-stream"]


def test_each_call_with_a_choice_says_that_it_may_be_wrong(operations: list[Operation]) -> None:
    by_name = {each.says["operationId"]: each for each in operations}
    assert "422" in errors_of(by_name["get_report"])
    for name in ("model_metadata", "model_ready", "model_config", "model_statistics"):
        assert "400" in errors_of(by_name[f"{name}_version"])


def test_examples_that_delete_are_of_nothing_that_the_demo_brings(operations: list[Operation]) -> None:
    last = {
        each.path: each.says["parameters"][-1].get("example", "")
        for each in operations
        if each.method == "delete" and not each.path.endswith(("/override", "_id}"))
    }
    assert last
    assert {path: name for path, name in last.items() if not name.startswith("my-")} == {}
