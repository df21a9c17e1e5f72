"""Engines by name: one row for each."""

from app.engines.engine import Engine, LoadedModel, TensorSpec
from app.engines.onnxruntime import OnnxRuntimeEngine

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (OnnxRuntimeEngine(),)}

#: What serves an upload.
DEFAULT_ENGINE = OnnxRuntimeEngine.name

__all__ = ["DEFAULT_ENGINE", "ENGINES", "Engine", "LoadedModel", "TensorSpec"]
