"""From blobs to a model that is ready to answer."""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.blobs import BlobStore
from app.engines import ENGINES, LoadedModel, TensorSpec
from app.engines.engine import NUMPY_TYPES, Array
from app.errors import InvalidModel, OctetError
from app.registry.tables import Variant


@dataclass(frozen=True)
class Artifact:
    """What is loaded: an ONNX file, and its external data under the name that it has in the model."""

    engine: str
    digest: str
    data_digest: str | None = None
    data_name: str | None = None

    @classmethod
    def of(cls, variant: Variant) -> "Artifact":
        return cls(variant.engine, variant.digest, variant.data_digest, variant.data_name)


class Loader:
    """Loads artifacts, and warms them. Its methods block, for as long as the engine takes."""

    def __init__(self, blobs: BlobStore, scratch: Path, *, intra_op_threads: int) -> None:
        self._blobs = blobs
        self._scratch = scratch
        self._intra_op_threads = intra_op_threads

    def load(self, artifact: Artifact, *, arena: bool = True) -> LoadedModel:
        """The model, warm. Raises `InvalidModel` when it cannot be loaded. Without `arena` it keeps less memory."""
        try:
            model = self._load(artifact, arena)
        except FileNotFoundError as error:
            raise InvalidModel("failed to load: the artifact was deleted") from error
        warm_up(model)
        return model

    def file_bytes(self, artifact: Artifact) -> int:
        """The size of the artifact's files: what it takes in memory at least; 0 when they are gone."""
        digests = filter(None, (artifact.digest, artifact.data_digest))
        try:
            return sum(self._blobs.path(digest).stat().st_size for digest in digests)
        except FileNotFoundError:
            return 0

    def _load(self, artifact: Artifact, arena: bool) -> LoadedModel:
        engine = ENGINES[artifact.engine]
        threads = self._intra_op_threads
        if artifact.data_digest is None or artifact.data_name is None:
            return engine.load(self._blobs.path(artifact.digest), intra_op_threads=threads, arena=arena)
        folder = self._scratch / f"load-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            self._blobs.link(artifact.digest, folder / "model.onnx")
            self._blobs.link(artifact.data_digest, folder / artifact.data_name)
            return engine.load(folder / "model.onnx", intra_op_threads=threads, arena=arena)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def warm_up(model: LoadedModel) -> None:
    """Run once on zeros, so that the first client does not pay for lazy allocation.

    A model may refuse made-up inputs (shapes that must agree, say): it is served all the same.
    """
    try:
        model.run({spec.name: zeros(spec) for spec in model.inputs})
    except OctetError:
        return


def zeros(spec: TensorSpec) -> Array:
    """An array that fits `spec`, each dynamic axis one long; empty strings for BYTES."""
    shape = tuple(1 if axis < 0 else axis for axis in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, b"", dtype=np.object_)
    return np.zeros(shape, dtype=NUMPY_TYPES[spec.datatype])
