"""Operators that neither ONNX nor an engine has: domains that whoever runs the service allowed, and what runs them.

What is allowed is allowed for the whole process, and for those that it confines (`app.confinement`).
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path

from app.errors import Invalid

#: Of ONNX's own operators, and of those that engines bring with them.
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_ENGINE_DOMAINS = frozenset({"com.microsoft"})

#: What an engine calls in a library of operators.
_ENTRY = "RegisterCustomOps"

_libraries: dict[str, Path] = {}


def allow(libraries: Mapping[str, Path]) -> None:
    """From now on, models may have operators of these domains, which the libraries run; of no others."""
    _libraries.clear()
    _libraries.update(libraries)


def allowed() -> dict[str, Path]:
    """The libraries of the domains that are allowed."""
    return dict(_libraries)


def runnable_domains() -> frozenset[str]:
    """The domains whose operators run here. Of any other, an operator can only be a function of the model's own."""
    return STANDARD_DOMAINS | _ENGINE_DOMAINS | _libraries.keys()


def listed(setting: str) -> dict[str, Path]:
    """What `OCTET_CUSTOM_OPERATORS` says: `domain=/path/of/library.so`, by commas. Each library is loaded once.

    Raises `Invalid` for a text of another form, and for a file that is no such library.
    """
    libraries = {}
    for entry in filter(None, map(str.strip, setting.split(","))):
        domain, _, path = map(str.strip, entry.partition("="))
        if not domain or not Path(path).is_absolute():
            raise Invalid(
                f"OCTET_CUSTOM_OPERATORS holds '{entry}', which does not say domain=/path/of/library.so: the domain of"
                " operators, and the whole path of the library that runs them"
            )
        _check(Path(path))
        libraries[domain] = Path(path)
    return libraries


def _check(path: Path) -> None:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise Invalid(f"OCTET_CUSTOM_OPERATORS: '{path}' cannot be loaded as a library: {error}") from error
    if not hasattr(library, _ENTRY):
        raise Invalid(
            f"OCTET_CUSTOM_OPERATORS: '{path}' is no library of operators for onnxruntime: it has no {_ENTRY}"
        )
