"""The OpenAPI document: what FastAPI knows of the routes, and what all of them have in common.

Routes say which errors they answer with, and when; the form of an error is the same for all, and added here.
"""

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from app.api import samples

Document = dict[str, Any]

_DESCRIPTION = """\
Upload an ONNX model, get smaller and faster variants of it with measured reports, and serve any of them.

1. **Upload** samples (`POST /api/v1/datasets`) and a model (`POST /api/v1/models`).
2. **Quantize**: each job (`POST /api/v1/jobs`) makes a *variant* of the model. `GET /api/v1/jobs/{job_id}` says how far
   it is.
3. **Compare** size, accuracy and latency of the variants (`GET /api/v1/models/{model}/variants`), read the report of
   one, and choose which answers by default (`PUT /api/v1/models/{model}/default`).
4. **Ask** it (`POST /v2/models/{model}/infer`): the Open Inference Protocol, which Triton's clients speak too.

Examples are of the model `resnet20` and the dataset `cifar10`, which `octet demo` brings: with that running, each call
can be tried as it stands. What deletes is shown with names that the examples of other calls make. Only ids of jobs and
experiments have to be filled in.

Errors of `/api/v1` are `application/problem+json` (RFC 9457): `detail` says what was wrong and what would be right.
Errors of `/v2` are `{"error": "…"}`, as its protocol has it.
"""

#: In the order in which they are read.
_TAGS = {
    "models": "What you upload. New bytes under a name that exists are its next *revision*.",
    "datasets": "Samples of what a model is asked. They calibrate its quantized variants, and judge them.",
    "jobs": "Work that makes one variant of a model, or measures it as it is.",
    "variants": "What can be served: the upload, called `original`, and what jobs made of it.",
    "points": "The trade-offs between accuracy and speed that searches (method `mixed`) found on their way.",
    "experiments": "Variants compared on live traffic: who gets which, what came of it, and what may be concluded.",
    "inference": "Run models. Open Inference Protocol V2 over REST, with Triton's extension for binary tensors.",
    "repository": "Which variants are in memory. Each is loaded at its first request, if not before.",
    "server": "Whether the server is well, and how it is set up.",
    "keys": "Who may do what. Without any key, the service answers its own machine alone.",
    "audit": "Who changed what, and when.",
    "operations": "For those who run the server.",
}

_INFERENCE = "/v2"
_FORM = "multipart/form-data"
_UNREACHABLE = {
    "description": "The registry does not answer. The same request may succeed later.",
    "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}
#: What the framework says of its own 422, whose form no answer here has.
_FRAMEWORKS_OWN = "Validation Error"
_CONSTRAINTS = {"$ref", "enum", "format", "pattern", "minimum", "maximum", "minLength", "maxLength"}
_STREAM = "text/event-stream"
#: One event of a stream, in the words of OpenAPI 3.2, which the framework uses for its own streams, too.
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "What `Last-Event-ID` goes on after."},
        "event": {"type": "string", "description": "What kind it is of."},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["id", "event", "data"],
}


class Problem(BaseModel):
    """What is wrong with a request (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str = Field(description="The name of the status.")
    status: int
    detail: str = Field(description="What was wrong, and what would be right.")
    field: str | None = Field(default=None, description="The part of the request that is at fault, where it is one.")


class DocumentedApi(FastAPI):
    """An application whose document shows errors as they are."""

    def __init__(self, *, completions: Sequence[Callable[[Document], None]], **settings: Any) -> None:
        """`completions` add to the document what the framework does not know, each once."""
        tags = [{"name": name, "description": meaning} for name, meaning in _TAGS.items()]
        super().__init__(description=_DESCRIPTION, openapi_tags=tags, **settings)
        self._completions = completions
        self._completed: Document | None = None

    def openapi(self) -> Document:
        """The document, which the framework makes anew where routes were added."""
        document = super().openapi()
        if document is not self._completed:
            for complete in self._completions:
                complete(document)
            _complete(document)
            self._completed = document
        return document


def _complete(document: Document) -> None:
    for path, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            _prefill(parameter)
        _describe_stream(operation)
        if not path.startswith(_INFERENCE):
            _describe_errors(operation)
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    for name, sample in samples.ANSWERS.items():
        schemas[name]["examples"] = [sample]


def _operations(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _prefill(parameter: dict[str, Any]) -> None:
    """Swagger UI fills a field with the parameter's example, and only shows its schema's."""
    if parameter["required"] and "examples" in parameter["schema"]:
        parameter["example"] = parameter["schema"]["examples"][0]


def _describe_stream(operation: dict[str, Any]) -> None:
    """The framework says of a stream that it is one string."""
    stream = operation["responses"].get("200", {}).get("content", {}).get(_STREAM)
    if stream is not None:
        stream.pop("schema", None)
        stream["itemSchema"] = _EVENT


def _describe_errors(operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    if answers.get("422", {}).get("description") == _FRAMEWORKS_OWN:
        del answers["422"]
        if _may_be_invalid(operation):
            answers["422"] = {"description": "A value in the request is wrong; `field` says which."}
    if _FORM in operation.get("requestBody", {}).get("content", {}):
        answers.setdefault("400", {"description": "The body is not a form that can be read."})
    answers.setdefault("503", dict(_UNREACHABLE))
    for status in sorted(status for status in answers if status >= "400"):
        answer = answers[status] = answers.pop(status)
        answer.setdefault("content", {"application/problem+json": _problem(int(status), answer["description"])})


def _may_be_invalid(operation: dict[str, Any]) -> bool:
    """Whether the request holds more than names, of which a wrong one is not found."""
    schemas = [parameter["schema"] for parameter in operation.get("parameters", [])]
    return "requestBody" in operation or any(schema.keys() & _CONSTRAINTS for schema in _alternatives(schemas))


def _alternatives(schemas: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for schema in schemas:
        yield from schema.get("anyOf", [schema])


def _problem(status: int, detail: str) -> dict[str, Any]:
    example = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
