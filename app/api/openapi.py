"""What `/openapi.json` says about keys: which scope each call needs, how it is sent, and how requests are refused."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.access import needs

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, as `octet keys create` shows it."},
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key, in its own header.",
    },
}
_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "What was at fault, where one field was."},
    },
}
_ERROR = {
    "title": "InferenceError",
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_REFUSALS = {
    "401": ("No key was shown, or one that is wrong, revoked or expired.", "WWW-Authenticate"),
    "403": ("The key's scope is too small, or it is for other models.", None),
    "429": ("The key has made more requests, or uploaded more, than it may.", "Retry-After"),
}


def install(app: FastAPI) -> None:
    """Have the document of `app` say so for every call."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _complete(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    components.setdefault("schemas", {}).update({"Problem": _PROBLEM, "InferenceError": _ERROR})
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(operation, path, method.upper())


def _describe(operation: dict[str, Any], path: str, method: str) -> None:
    scope = needs.scope_of(method, path)
    if scope is needs.OPEN:
        operation["security"] = []
        return
    # A service without keys takes requests without.
    operation["security"] = [*({name: []} for name in _SCHEMES), {}]
    said = operation.get("description", "")
    operation["description"] = f"{said}\n\nNeeds a key of scope `{scope}`.".strip()
    for status, (meaning, header) in _REFUSALS.items():
        operation.setdefault("responses", {}).setdefault(status, _refusal(path, meaning, header))


def _refusal(path: str, meaning: str, header: str | None) -> dict[str, Any]:
    is_inference = path == "/v2" or path.startswith("/v2/")
    kind, schema = ("application/json", "InferenceError") if is_inference else ("application/problem+json", "Problem")
    refusal: dict[str, Any] = {
        "description": meaning,
        "content": {kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    if header is not None:
        refusal["headers"] = {header: {"schema": {"type": "string"}}}
    return refusal
