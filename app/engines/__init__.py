"""Engines by name. They are imported on first use: what only describes models needs none.

An engine is a class as `app.engines.engine.Engine` has it, and one row that names it: here, or in the entry points of
an installed package, group `octet.engines`.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from app.engines.engine import Engine, LoadedModel, TensorSpec
from app.errors import UnknownEngine

__all__ = ["ENGINES", "ENTRY_POINTS", "Engine", "LoadedModel", "TensorSpec", "get", "names"]

#: Engine → `module:Class`.
ENGINES: dict[str, str] = {
    "onnxruntime": "app.engines.onnxruntime:OnnxRuntimeEngine",
}

#: Where other packages add rows, in any process that can import them.
ENTRY_POINTS = "octet.engines"


def names() -> list[str]:
    """Return the names of all engines, sorted."""
    return sorted(ENGINES.keys() | entry_points(group=ENTRY_POINTS).names)


@cache
def get(name: str) -> Engine:
    """Return the engine, the same one at each call.

    Raises:
        UnknownEngine: There is no such engine, or what it needs is not installed.
    """
    row = ENGINES.get(name) or next((point.value for point in entry_points(group=ENTRY_POINTS, name=name)), None)
    if row is None:
        raise UnknownEngine(
            f"there is no engine '{name[:80]}'; there is {', '.join(names())}. To add it, install a package that has it"
            f" among its entry points '{ENTRY_POINTS}'"
        )
    module, _, attribute = row.partition(":")
    try:
        engine: Engine = getattr(import_module(module), attribute)()
    except ModuleNotFoundError as error:
        raise UnknownEngine(
            f"engine '{name}' needs the module '{error.name}', which is not installed: pip install {error.name}"
        ) from error
    return engine
