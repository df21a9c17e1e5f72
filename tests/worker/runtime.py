"""What the worker's tests ask of graphs."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray


def run(model: Path, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of the model at `model`."""
    session = ort.InferenceSession(str(model), _options(), providers=["CPUExecutionProvider"])
    answers: list[NDArray[Any]] = session.run(None, dict(feeds))
    return answers


def executed_operators(model: Path) -> Counter[str]:
    """What onnxruntime makes of the model at `model`: the operators that it will really run."""
    options = _options()
    optimized = model.with_name("executed.onnx")
    options.optimized_model_filepath = str(optimized)
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(optimized, load_external_data=False).graph.node)
    for left in (optimized, optimized.with_name(f"{optimized.name}.data")):
        left.unlink(missing_ok=True)
    return operators


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


def cosine(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Of the angle between the two; 0 where one is zeros."""
    a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0
