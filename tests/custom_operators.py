"""The library of custom operators that onnxruntime-extensions brings, of the domain ai.onnx.contrib.

The package is not imported: that would have this process, and all that it starts, read protobuf in Python.
"""

from importlib.util import find_spec
from pathlib import Path

_package = find_spec("onnxruntime_extensions")
assert _package is not None
assert _package.origin is not None

(LIBRARY,) = Path(_package.origin).parent.glob("_extensions_pydll*.so")
