"""What intake hands on: checked models and datasets, and the limits that they were checked under."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.engines.engine import TensorSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """`seconds`: wall-clock time of one inspection; `unpacked_bytes`: what an upload may come to on disk."""

    seconds: float
    unpacked_bytes: int


@dataclass(frozen=True)
class CheckedModel:
    """An ONNX model that is safe to load, as files of the scratch folder.

    `path` is the `.onnx`; `data_path` its one external-data file, for models over the size of a protobuf only.
    `digest` identifies the upload's content (sha256, hex): that of `path` where there is no data file, else one
    made of `file_digest` and `data_digest`. `size_bytes` counts both files. `operators` counts op types over
    all graphs and functions, those outside the standard domains as `domain::Op`; `operator_nodes` names the first
    node of each. `float_bytes` is how much of the model is FP32 weights: what quantization can shrink.
    """

    path: Path
    data_path: Path | None
    digest: str
    file_digest: str
    data_digest: str | None
    size_bytes: int
    opset: int
    ir_version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    operator_nodes: dict[str, str]
    float_bytes: int

    @property
    def files(self) -> dict[str, Path]:
        """The files by their digests."""
        files = {self.file_digest: self.path}
        if self.data_digest is not None and self.data_path is not None:
            files[self.data_digest] = self.data_path
        return files

    def as_json(self) -> dict[str, Any]:
        """Files by their names within the folder: paths never leave the process that made them."""
        return vars(self) | {
            "path": self.path.name,
            "data_path": self.data_path.name if self.data_path else None,
            "inputs": [spec.as_json() for spec in self.inputs],
            "outputs": [spec.as_json() for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> "CheckedModel":
        """The inverse of `as_json`; raises `ValueError` for a wrong type, or a file that `folder` does not hold."""
        files = {name: _file_of(folder, value[name]) for name in ("path", "data_path") if value[name] is not None}
        return _validated(cls, {**value, **files})


@dataclass(frozen=True)
class ArraySpec:
    """One array of a dataset: its name, OIP datatype, and shape with the samples first."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ArraySpec":
        return cls(value["name"], value["dtype"], tuple(value["shape"]))


@dataclass(frozen=True)
class CheckedDataset:
    """A dataset in its canonical form: one uncompressed `.npz`, the same content always the same bytes.

    `arrays` are the features, sorted by name; when `labelled`, the file holds `label`, INT64, beside them.
    `class_names[i]` is what label `i` stands for, where the upload said so. `digest` is the sha256 of `path`.
    """

    path: Path
    digest: str
    size_bytes: int
    samples: int
    arrays: tuple[ArraySpec, ...]
    labelled: bool
    class_names: tuple[str, ...] | None

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {
            "path": self.path.name,
            "arrays": [spec.as_json() for spec in self.arrays],
            "class_names": list(self.class_names) if self.class_names is not None else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> "CheckedDataset":
        """The inverse of `as_json`; raises `ValueError` for a wrong type, or a file that `folder` does not hold."""
        return _validated(cls, {**value, "path": _file_of(folder, value["path"])})


def _validated(kind: type[T], value: Mapping[str, Any]) -> T:
    # Imported here, since the process that checks an upload only writes these, and would start later for it.
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(value)


def _file_of(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        raise ValueError("names a file that is not a plain one of the folder")
    return path
