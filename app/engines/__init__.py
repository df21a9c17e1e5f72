"""Engines by name: one row for each. They are imported when asked for: what only describes models needs none."""

from functools import cache

from app.engines.engine import Engine, LoadedModel, TensorSpec

ENGINES: dict[str, Engine]

#: What serves an upload.
DEFAULT_ENGINE = "onnxruntime"

__all__ = ["DEFAULT_ENGINE", "ENGINES", "Engine", "LoadedModel", "TensorSpec"]


@cache
def _engines() -> dict[str, Engine]:
    from app.engines.onnxruntime import OnnxRuntimeEngine

    return {engine.name: engine for engine in (OnnxRuntimeEngine(),)}


def __getattr__(name: str) -> dict[str, Engine]:
    if name == "ENGINES":
        return _engines()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
