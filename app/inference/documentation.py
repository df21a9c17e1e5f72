"""What `/openapi.json` says about routes whose bodies no framework reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.inference import example
from app.inference.schemas import FREE, SCHEMAS, Schema, array, record, reference

_ERRORS = {
    "400": "Something is wrong with the request; the answer says what.",
    "404": "There is no such model or variant.",
    "408": "The body did not come in time.",
    "409": "The variant was rejected, and does not serve: it broke its job's budget.",
    "413": "The body is too large.",
    "501": "A part of the protocol that is not offered.",
    "503": "Not now: the variant was unloaded, too many requests wait, or the server is stopping.",
}
#: What a request with a body can come to, whatever it asks.
_BODY = ("400", "408", "413")
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_PICTURE = "a_ship"


def complete(document: dict[str, Any]) -> None:
    """Add to `document` what the operations below refer to."""
    components = document["components"]
    components["schemas"].update(SCHEMAS)
    components.setdefault("examples", {})[_PICTURE] = {
        "summary": "A picture of a ship, 32 × 32",
        "description": "For the model of `octet demo`. The answer is its three likeliest classes.",
        "value": example.request(),
    }


@dataclass(frozen=True)
class Operation:
    """What is said of a route.

    Attributes:
        answer: the schema of the body of a 200; None where it has none.
        errors: statuses that it can answer with, of `_ERRORS`.
        body: the `requestBody`, None where it takes none.
        named: what the path's `{model}` and `{version}` are in the example.
        parameters: those that are not in the path.
        answers: further answers, or other ones than `answer` and `errors` say.
    """

    tag: str
    summary: str
    description: str
    answer: Schema | None = None
    errors: tuple[str, ...] = ()
    body: Mapping[str, Any] | None = None
    named: Mapping[str, str] = field(default_factory=lambda: {"model": example.MODEL, "version": example.VARIANT})
    parameters: tuple[Mapping[str, Any], ...] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)

    def extra(self, path: str) -> dict[str, Any]:
        """For the route at `path`: what the framework cannot know of it."""
        parameters = [*_path_parameters(path, self.named), *self.parameters]
        return {
            "responses": self._answers(),
            **({"parameters": parameters} if parameters else {}),
            **({"requestBody": dict(self.body)} if self.body is not None else {}),
        }

    def _answers(self) -> dict[str, Any]:
        content = {"content": {"application/json": {"schema": self.answer}}} if self.answer is not None else {}
        return {"200": {"description": "So it is.", **content}, **self.answers, **{s: _error(s) for s in self.errors}}


def _error(status: str) -> dict[str, Any]:
    meaning = _ERRORS[status]
    answer = {"schema": reference("InferenceError"), "example": {"error": meaning}}
    return {"description": meaning, "content": {"application/json": answer}}


def _path_parameters(path: str, named: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": meaning,
            "example": named[name],
        }
        for name, meaning in _PATH.items()
        if f"{{{name}}}" in path
    ]


_PATH = {
    "model": "A model's name, or `model@variant`. A name alone is its default variant.",
    "version": "A variant's label, such as `int8`, or its version, such as `4`.",
}


def _header(name: str, schema: Schema, meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": meaning}


def _object(schema: Schema, of_what: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": dict(sample)}}
    return {"required": False, "description": of_what, "content": content}


def of_version(operation: Operation) -> Operation:
    """The same where the path names a version: `model@variant` names one, too, and only one can be meant."""
    return replace(operation, errors=tuple(sorted({*operation.errors, "400"})))


INFER = Operation(
    "inference",
    "Run the model",
    "Send values for each input, and get the outputs. `GET /v2/models/{model}` says which inputs there are, and of"
    " what shape; the first axis is mostly the batch's, so that one request may bring several samples.\n\n"
    "The answer says which variant gave it (`model_version`, `parameters.variant`, header `X-Model-Variant`). Where no"
    " variant is named, that is the default, or what a running experiment chose for this user (header `X-Unit-Id`).\n\n"
    "Large tensors travel faster as bytes: as `application/octet-stream` the body is JSON, whose length is in the"
    " header `Inference-Header-Content-Length`, followed by the tensors.",
    errors=("400", "404", "408", "409", "413", "501", "503"),
    body={
        "required": True,
        "content": {
            "application/json": {
                "schema": reference("InferenceRequest"),
                "examples": {_PICTURE: {"$ref": f"#/components/examples/{_PICTURE}"}},
            },
            **_BINARY,
        },
    },
    parameters=(
        _header(
            "Inference-Header-Content-Length",
            {"type": "integer", "minimum": 0},
            "Bytes of JSON at the start of the body; binary tensors follow. 0: the body is the one input.",
        ),
        _header("Content-Encoding", {"enum": ["identity", "gzip", "deflate"]}, "How the body is compressed."),
        _header("X-Unit-Id", {"type": "string"}, "Whom the request is for, where an experiment runs."),
    ),
    answers={
        "200": {
            "description": "The outputs; as JSON followed by binary tensors where those were asked for.",
            "content": {
                "application/json": {
                    "schema": reference("InferenceResponse"),
                    "example": {
                        "model_name": "resnet20",
                        "model_version": "1",
                        "id": "a-ship",
                        "parameters": {"variant": "original"},
                        "outputs": [
                            {
                                "name": "logits",
                                "datatype": "BYTES",
                                "shape": [1, 3],
                                "data": ["11.4:8:ship", "6.5:0:airplane", "2.2:1:automobile"],
                            }
                        ],
                    },
                },
                **_BINARY,
            },
        }
    },
)
MODEL_METADATA = Operation(
    "inference",
    "A model's inputs and outputs",
    "Names, types and shapes: what a request to `infer` must bring, and what its answer holds.",
    reference("ModelMetadata"),
    ("404", "503"),
)
MODEL_READY = Operation(
    "inference",
    "Whether the model can be served",
    "200, with an empty body, where a request would be answered. It need not be in memory: the first request loads it.",
    errors=("404", "409", "503"),
)
MODEL_CONFIG = Operation(
    "inference",
    "A model's configuration, in Triton's terms",
    "For clients that ask Triton for it, such as perf_analyzer. `max_batch_size` is 0 since shapes hold every axis, the"
    " batch's too.",
    reference("ModelConfiguration"),
    ("404", "503"),
)
MODEL_STATISTICS = Operation(
    "inference",
    "What the model has answered so far",
    "Counts and durations in nanoseconds, of each variant that was asked since the server started.",
    reference("StatisticsResponse"),
    ("404", "503"),
)
STATISTICS = Operation(
    "inference",
    "What all models have answered so far",
    "Counts and durations in nanoseconds, of each variant that was asked since the server started. `GET /metrics` has"
    " the same for Prometheus.",
    reference("StatisticsResponse"),
    ("503",),
)

SERVER_METADATA = Operation(
    "server",
    "What this server is",
    "Its name and version, and which extensions of the protocol it offers in full.",
    reference("ServerMetadata"),
)
LIVE = Operation("server", "Whether the process answers", "200, with an empty body, whenever it does.")
READY = Operation(
    "server",
    "Whether requests can be served",
    "200, with an empty body. 503 while the registry does not answer, and once the server is stopping: what load"
    " balancers ask.",
    errors=("503",),
)
LOGGING = Operation(
    "server", "The logging settings", "What the operator started the server with.", reference("Settings")
)
TRACE = Operation("server", "The trace settings", "What the operator started the server with.", reference("Settings"))
MODEL_TRACE = Operation(
    "server", "A model's trace settings", "The same for all models.", reference("Settings"), ("404", "503")
)
_UNCHANGED = (
    "A part of the protocol. A request that leaves all as it is, an empty one too, is answered with the settings, and"
    " one that would change something with 501: only the operator can, when the server starts."
)


def change_of(settings: Operation, sample: Mapping[str, Any]) -> Operation:
    """The call that would change what `settings` reads; `sample`: a body that asks for no change."""
    return Operation(
        settings.tag,
        settings.summary + ", which are fixed",
        _UNCHANGED,
        settings.answer,
        tuple(sorted({*settings.errors, *_BODY, "501"})),
        _object(reference("Settings"), "Settings by name, as they are.", sample),
    )


LOGGING_CHANGE = change_of(LOGGING, {"log_error": True})
TRACE_CHANGE = change_of(TRACE, {"trace_level": ["OFF"]})
MODEL_TRACE_CHANGE = change_of(MODEL_TRACE, {"trace_level": ["OFF"]})

_ONE_VARIANT = {"model": f"{example.MODEL}@fp16"}
INDEX = Operation(
    "repository",
    "All variants of all models",
    "Each with whether it can be served (`READY`), and the reason where it cannot.",
    array(reference("IndexedVariant")),
    (*_BODY, "503"),
    _object(
        record({}, {"ready": {"type": "boolean", "description": "Only those that can be served."}}),
        "What is asked for.",
        {"ready": True},
    ),
)
LOAD = Operation(
    "repository",
    "Bring a variant into memory",
    "It is there when this is answered, so that no request waits for it. Of a model without a variant, that is the"
    " default, and all others may answer again too. Also undoes `unload`.",
    FREE,
    ("400", "404", "408", "409", "413", "501", "503"),
    _object(record({}, {"parameters": FREE}), "Configurations and files are not taken here.", {}),
    _ONE_VARIANT,
)
UNLOAD = Operation(
    "repository",
    "Free the memory that a model's variants take",
    "Ends once running requests were answered. From then on the variant, or each variant of a model, answers nothing"
    " (503) until it is loaded again: `POST /v2/repository/models/{model}/load`.",
    FREE,
    (*_BODY[:1], "404", *_BODY[1:], "503"),
    _object(
        record({}, {"parameters": record({}, {"unload_dependents": {"type": "boolean"}})}),
        "No model here depends on another, so that it means nothing.",
        {},
    ),
    _ONE_VARIANT,
)
