"""One sample to a variant and back, in the binary form of the Open Inference Protocol."""

import json
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.cli.connection import Connection, Refused

Array = NDArray[Any]

_HEADER_LENGTH = "Inference-Header-Content-Length"
# Those of `app.engines`, which a client does without: importing it loads the runtime.
_DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


@dataclass(frozen=True)
class Answer:
    """`outputs` by name; `milliseconds` from sending to having."""

    variant: str
    outputs: Mapping[str, Array]
    milliseconds: float


def read_sample(file: Path, sample: int) -> dict[str, Array]:
    """Sample number `sample` of each array in `file`, its first axis kept: shape (1, …). A `.npy` has no name: ""."""
    chosen = {}
    for name, array in _read(file).items():
        if array.ndim == 0 or not 0 <= sample < len(array):
            raise Refused(f"{file.name} has no sample {sample}: array '{name}' has shape {list(array.shape)}")
        chosen[name] = array[sample : sample + 1]
    return chosen


def _read(file: Path) -> dict[str, Array]:
    try:
        loaded: Any = np.load(file, allow_pickle=False)
        return {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Refused(f"{file.name} cannot be read as .npz or .npy: {error}") from error


def ask(connection: Connection, model: str, arrays: Mapping[str, Array]) -> Answer:
    """The variant's outputs for `arrays`, those of them that are its inputs. Raises `Refused`."""
    specs = connection.json("GET", f"/v2/models/{model}")["inputs"]
    inputs, blobs = [], []
    for spec in specs:
        array = _chosen(arrays, spec, only=len(specs) == 1)
        blob = np.ascontiguousarray(array, dtype=_DTYPES.get(spec["datatype"], array.dtype)).tobytes()
        inputs.append(
            {
                "name": spec["name"],
                "shape": list(array.shape),
                "datatype": spec["datatype"],
                "parameters": {"binary_data_size": len(blob)},
            }
        )
        blobs.append(blob)
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    started = time.perf_counter()
    answer = connection.call(
        "POST",
        f"/v2/models/{model}/infer",
        content=header + b"".join(blobs),
        headers={_HEADER_LENGTH: str(len(header))},
    )
    milliseconds = (time.perf_counter() - started) * 1e3
    outputs = dict(_outputs(answer.content, int(answer.headers[_HEADER_LENGTH])))
    return Answer(answer.headers["X-Model-Variant"], outputs, milliseconds)


def _chosen(arrays: Mapping[str, Array], spec: Mapping[str, Any], *, only: bool) -> Array:
    name = spec["name"]
    if name in arrays:
        return arrays[name]
    if only and "" in arrays:
        return arrays[""]
    raise Refused(f"the file has no array '{name}', which the model takes; it has {', '.join(arrays) or 'none'}")


def _outputs(content: bytes, header_length: int) -> Iterator[tuple[str, Array]]:
    offset = header_length
    for output in json.loads(content[:header_length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        raw = content[offset : offset + size]
        offset += size
        if output["datatype"] in _DTYPES:
            yield output["name"], np.frombuffer(raw, _DTYPES[output["datatype"]]).reshape(output["shape"])


def described(answer: Answer, labels: Sequence[str] | None, top: int) -> Iterator[str]:
    """Lines for people: the classes with the highest scores, or what the tensor looks like."""
    for name, array in answer.outputs.items():
        is_scores = array.ndim == 2 and array.dtype.kind == "f" and (labels is None or len(labels) == array.shape[1])
        if is_scores and array.shape[1] <= 10_000:
            order = np.argsort(-array[0])[:top]
            scores = ", ".join(f"{labels[i] if labels else f'class {i}'} {array[0, i]:.3f}" for i in order)
            yield f"{name}: {scores}"
        else:
            first = ", ".join(f"{value:.4g}" for value in array.ravel()[:5].tolist())
            yield f"{name}: {array.dtype} {list(array.shape)} [{first}, …]"
