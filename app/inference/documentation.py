"""What `/openapi.json` says about routes whose bodies no framework reads."""

from typing import Any

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {
            "type": "string",
            "description": "BOOL, INT8 to INT64, UINT8 to UINT64, FP32, FP64, BYTES; FP16 and BF16 as binary data.",
        },
        "parameters": {
            "type": "object",
            "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
        },
        "data": {"type": "array", "items": {}, "description": "Nested or flat, in row-major order."},
    },
}
_REQUESTED_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "parameters": {
            "type": "object",
            "properties": {
                "binary_data": {"type": "boolean"},
                "classification": {"type": "integer", "minimum": 0},
            },
        },
    },
}
_PARAMETERS = {
    "type": "object",
    "properties": {
        "binary_data_output": {"type": "boolean"},
        "priority": {"type": "integer", "minimum": 0},
        "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds."},
        "sequence_id": {"type": ["integer", "string"]},
        "sequence_start": {"type": "boolean"},
        "sequence_end": {"type": "boolean"},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": _REQUESTED_OUTPUT},
    },
}
_ANSWER = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}


def _header(name: str, schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": meaning}


INFER: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}, **_BINARY}},
    "parameters": [
        _header(
            "Inference-Header-Content-Length",
            {"type": "integer", "minimum": 0},
            "Bytes of JSON at the start of the body; binary tensors follow. 0: the body is the one input.",
        ),
        _header("Content-Encoding", {"enum": ["identity", "gzip", "deflate"]}, "How the body is compressed."),
    ],
    "responses": {
        "200": {
            "description": "The outputs; as JSON followed by binary tensors where those were asked for.",
            "content": {"application/json": {"schema": _ANSWER}, **_BINARY},
        },
        **{
            status: {"description": meaning, "content": {"application/json": {"schema": _ERROR}}}
            for status, meaning in (
                ("400", "What is wrong with the request."),
                ("404", "No such model or variant."),
                ("413", "The body is too large."),
                ("501", "A part of the protocol that is not offered."),
                ("503", "Not now."),
            )
        },
    },
}

_OBJECT_BODY = {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}
#: Routes that take an optional JSON object.
OPTIONAL_OBJECT: dict[str, Any] = {"requestBody": _OBJECT_BODY}

_PATH = {
    "model": "A model's name, or `model@variant`.",
    "version": "An integer version, or a variant's label.",
    "path": "Whatever follows.",
}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """A description of each `{name}` in `path`."""
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": meaning}
        for name, meaning in _PATH.items()
        if f"{{{name}}}" in path or f"{{{name}:" in path
    ]
