"""What the OpenAPI document says of keys: which scope each call needs, how it is sent, and how requests are refused."""

from typing import Any

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
_REFUSALS = {
    "401": ("No key was shown, or one that is wrong, revoked or expired.", "WWW-Authenticate"),
    "403": ("The key's scope is too small, or it is for other models.", None),
    "429": ("The key has made more requests, or uploaded more, than it may.", "Retry-After"),
}


def complete(document: dict[str, Any]) -> None:
    """Have the document say so for every call."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
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
    refusal: dict[str, Any] = {"description": meaning}
    if path == "/v2" or path.startswith("/v2/"):
        schema = {"$ref": "#/components/schemas/InferenceError"}
        refusal["content"] = {"application/json": {"schema": schema, "example": {"error": meaning}}}
    if header is not None:
        refusal["headers"] = {header: {"schema": {"type": "string"}}}
    return refusal
