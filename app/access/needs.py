"""Which scope each call needs: the one table, from which the check, the API's documentation and its tests are made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.caller import Scope

#: Without a key.
OPEN = None

_BY_SCOPE: Mapping[Scope | None, str] = {
    OPEN: """
        GET /v2/health/live
        GET /v2/health/ready
        GET /static/{path:path}
        GET /docs
        GET /openapi.json
        GET /login
        POST /login
        POST /logout
    """,
    # Also what came of requests: whoever makes them reports that.
    Scope.infer: """
        GET /v2
        POST /v2/models/{model}/infer
        POST /v2/models/{model}/versions/{version}/infer
        GET /v2/models/stats
        GET /v2/models/{model}
        GET /v2/models/{model}/ready
        GET /v2/models/{model}/config
        GET /v2/models/{model}/stats
        GET /v2/models/{model}/versions/{version}
        GET /v2/models/{model}/versions/{version}/ready
        GET /v2/models/{model}/versions/{version}/config
        GET /v2/models/{model}/versions/{version}/stats
        GET /v2/logging
        POST /v2/logging
        GET /v2/trace/setting
        POST /v2/trace/setting
        GET /v2/models/{model}/trace/setting
        POST /v2/models/{model}/trace/setting
        GET /v2/systemsharedmemory/{path:path}
        POST /v2/systemsharedmemory/{path:path}
        GET /v2/cudasharedmemory/{path:path}
        POST /v2/cudasharedmemory/{path:path}
        POST /v2/repository/index
        POST /api/v1/outcomes
    """,
    Scope.read: """
        GET /metrics
        GET /api/v1/models
        GET /api/v1/models/{model}
        GET /api/v1/models/{model}/revisions/{number}
        GET /api/v1/models/{model}/points
        GET /api/v1/models/{model}/variants
        GET /api/v1/models/{model}/variants/{variant}
        GET /api/v1/models/{model}/variants/{variant}/report
        GET /api/v1/models/{model}/variants/{variant}/artifact
        GET /api/v1/models/{model}/variants/{variant}/artifact/data
        GET /api/v1/models/{model}/experiments
        GET /api/v1/models/{model}/experiments/{experiment_id}
        GET /api/v1/models/{model}/experiments/{experiment_id}/timeline
        GET /api/v1/models/{model}/experiments/{experiment_id}/events
        GET /api/v1/models/{model}/experiments/{experiment_id}/assign
        GET /api/v1/datasets
        GET /api/v1/datasets/{dataset}
        GET /api/v1/jobs
        GET /api/v1/jobs/{job_id}
        GET /api/v1/jobs/{job_id}/events
    """,
    Scope.write: """
        POST /v2/repository/models/{model}/load
        POST /v2/repository/models/{model}/unload
        POST /api/v1/models
        DELETE /api/v1/models/{model}
        PUT /api/v1/models/{model}/default
        DELETE /api/v1/models/{model}/variants/{variant}
        PUT /api/v1/models/{model}/variants/{variant}/override
        DELETE /api/v1/models/{model}/variants/{variant}/override
        POST /api/v1/models/{model}/experiments
        PATCH /api/v1/models/{model}/experiments/{experiment_id}
        POST /api/v1/models/{model}/experiments/{experiment_id}/start
        POST /api/v1/models/{model}/experiments/{experiment_id}/pause
        POST /api/v1/models/{model}/experiments/{experiment_id}/stop
        POST /api/v1/models/{model}/experiments/{experiment_id}/rollback
        POST /api/v1/models/{model}/experiments/{experiment_id}/promote
        POST /api/v1/datasets
        DELETE /api/v1/datasets/{dataset}
        POST /api/v1/jobs
        DELETE /api/v1/jobs/{job_id}
    """,
    Scope.admin: """
        GET /api/v1/keys
        POST /api/v1/keys
        GET /api/v1/keys/{key_id}
        DELETE /api/v1/keys/{key_id}
        GET /api/v1/audit
    """,
}

#: Calls whose bodies count towards a key's quota.
UPLOADS = {("POST", "/api/v1/models"), ("POST", "/api/v1/datasets")}

#: The calls of gRPC, which are those of `/v2`.
GRPC: Mapping[str, Scope | None] = {
    "ServerLive": OPEN,
    "ServerReady": OPEN,
    "ServerMetadata": Scope.infer,
    "ModelReady": Scope.infer,
    "ModelMetadata": Scope.infer,
    "ModelConfig": Scope.infer,
    "ModelStatistics": Scope.infer,
    "ModelInfer": Scope.infer,
    "ModelStreamInfer": Scope.infer,
    "TraceSetting": Scope.infer,
    "LogSettings": Scope.infer,
    "RepositoryIndex": Scope.infer,
    "RepositoryModelLoad": Scope.write,
    "RepositoryModelUnload": Scope.write,
    **{
        f"{kind}SharedMemory{verb}": Scope.infer
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    },
}


@dataclass(frozen=True)
class Need:
    """What a call needs. `path`: its template; `named`: what the path names, as `model`."""

    scope: Scope | None
    method: str
    path: str
    named: Mapping[str, str]


def rows() -> Iterator[tuple[str, str, Scope | None]]:
    """Method, template of the path, and scope of each call."""
    for scope, lines in _BY_SCOPE.items():
        for line in lines.split("\n"):
            if line.strip():
                method, path = line.split()
                yield method, path, scope


def scope_of(method: str, template: str) -> Scope | None:
    """Raises `KeyError` for a call that is not in the table."""
    return _TABLE[method, template]


def need_of(method: str, path: str) -> Need | None:
    """What a request needs; None where there is nothing to call.

    What is no part of the API and is only looked at is a page of the dashboard, which shows what `read` may see.
    """
    method = "GET" if method == "HEAD" else method
    found = _found(_TREE, path.split("/"))
    if found is not None:
        template, values = found
        if (method, template) in _TABLE:
            names = [part[1:-1].partition(":")[0] for part in template.split("/") if part.startswith("{")]
            return Need(_TABLE[method, template], method, template, dict(zip(names, values, strict=True)))
    if method == "GET" and not path.startswith(("/api/", "/v2/")):
        model = path.split("/")[2] if path.startswith("/models/") else ""
        return Need(Scope.read, method, path, {"model": model} if model else {})
    return None


def is_open_path(path: str) -> bool:
    """Whether all that is called at `path` is open: then anybody may be told what is not offered there."""
    found = _found(_TREE, path.split("/"))
    return found is not None and all(scope is OPEN for (_, each), scope in _TABLE.items() if each == found[0])


_TABLE: dict[tuple[str, str], Scope | None] = {(method, path): scope for method, path, scope in rows()}
_LEAF = ""


def _tree() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for template in {template for _, template in _TABLE}:
        node = tree
        for part in template.split("/"):
            kind = "{path}" if part == "{path:path}" else "{}" if part.startswith("{") else part
            node = node.setdefault("=" + kind, {})
        node[_LEAF] = template
    return tree


def _found(node: Mapping[str, Any], parts: list[str]) -> tuple[str, list[str]] | None:
    """The template, words before placeholders, and what stands at its placeholders."""
    if not parts:
        return (node[_LEAF], []) if _LEAF in node else None
    first, rest = parts[0], parts[1:]
    if "=" + first in node and not first.startswith("{"):
        found = _found(node["=" + first], rest)
        if found is not None:
            return found
    if first and "={}" in node:
        found = _found(node["={}"], rest)
        if found is not None:
            return found[0], [first, *found[1]]
    if "={path}" in node:
        return node["={path}"][_LEAF], ["/".join(parts)]
    return None


_TREE = _tree()
