"""What running a model takes, whichever library does it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: OIP datatype → numpy dtype. BF16 has no numpy dtype; BYTES is object arrays of `bytes`.
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}

OIP_NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in NUMPY_TYPES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, OIP datatype, and shape with -1 for a dynamic axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TensorSpec":
        return cls(value["name"], value["datatype"], tuple(value["shape"]))


class LoadedModel(Protocol):
    """A model ready to run; `run` may be called from several threads at once."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """The named outputs (all, in the model's order, when None), each an array of the output's datatype.

        Raises `Invalid` when the model refuses these inputs.
        """
        ...


class ModelLoader(Protocol):
    """What serving needs of an engine. The name is a word of letters and digits."""

    name: str

    def load(self, path: Path, *, intra_op_threads: int, arena: bool = True, saved: bool = False) -> LoadedModel:
        """The model at `path`, its external data beside it. Raises `InvalidModel` when it cannot be loaded.

        `arena`: keep memory between runs, which is faster; without, each run gives its memory back. `saved`: it was
        written by `save`.
        """
        ...

    def save(self, path: Path, folder: Path) -> str:
        """Write the model at `path` into `folder` as this engine loads it fastest: mapped into memory, not read.

        Processes that load it share that memory. Returns the name of the file to load. It answers as the model does.
        Raises `InvalidModel` when it cannot be loaded or written.
        """
        ...

    def build(self) -> str:
        """Return what files of `save` depend on besides the model: `NAME-…`, fit for the name of a folder.

        They are of use to engines of the same build only.
        """
        ...


@dataclass(frozen=True)
class Kernel:
    """The time that one kernel takes in one run.

    `node`: the name of the model's node, or of the tensor, that the kernel begins or ends with. `operator`: the ONNX
    operator whose work it does. `microseconds`: its duration.
    """

    node: str
    operator: str
    microseconds: float


class Engine(ModelLoader, Protocol):
    """A library that runs ONNX models.

    `can_profile`: it measures single kernels. `saturates_pairs`: on an x86 CPU without VNNI, its integer kernels add
    two products in 16 bits, which may saturate.
    """

    version: str
    can_profile: bool
    saturates_pairs: bool

    def profile(
        self, path: Path, requests: Sequence[Mapping[str, Array]], folder: Path, *, intra_op_threads: int, runs: int
    ) -> list[Kernel]:
        """Measure each kernel of the model at `path`; never called where `can_profile` is false.

        Args:
            path: The model, its external data beside it.
            requests: Inputs, used in turn.
            folder: Takes files for as long as the measurement lasts.
            intra_op_threads: Threads of one run.
            runs: How many runs are measured.

        Returns:
            The kernels of all measured runs, run by run.
        """
        ...
