"""Variants in memory: loaded once, off the event loop, and warm before they answer."""

import shutil
import threading
import uuid
from concurrent.futures import Future
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


class Pool:
    """Loaded artifacts. Its methods block and belong into threads; they may be called from many at once."""

    def __init__(self, blobs: BlobStore, scratch: Path, *, intra_op_threads: int) -> None:
        self._blobs = blobs
        self._scratch = scratch
        self._intra_op_threads = intra_op_threads
        self._lock = threading.Lock()
        self._loaded: dict[Artifact, Future[LoadedModel]] = {}

    def get(self, artifact: Artifact) -> LoadedModel:
        """The model, loading it at the first call; calls that come meanwhile wait for that one load.

        Raises `InvalidModel` when it cannot be loaded; the next call tries again.
        """
        with self._lock:
            future = self._loaded.get(artifact)
            first = future is None
            if future is None:
                future = self._loaded[artifact] = Future()
        if first:
            self._load_into(future, artifact)
        return future.result()

    def drop(self, digests: set[str]) -> None:
        """Forget artifacts whose ONNX file is among `digests`; requests that run on them still end."""
        with self._lock:
            for artifact in [artifact for artifact in self._loaded if artifact.digest in digests]:
                del self._loaded[artifact]

    def is_loaded(self, artifact: Artifact) -> bool:
        with self._lock:
            future = self._loaded.get(artifact)
        return future is not None and future.done() and future.exception() is None

    def _load_into(self, future: Future[LoadedModel], artifact: Artifact) -> None:
        try:
            model = self._load(artifact)
            warm_up(model)
        except BaseException as error:
            with self._lock:
                self._loaded.pop(artifact, None)
            future.set_exception(error)
            raise
        future.set_result(model)

    def _load(self, artifact: Artifact) -> LoadedModel:
        engine = ENGINES[artifact.engine]
        try:
            if artifact.data_digest is None or artifact.data_name is None:
                return engine.load(self._blobs.path(artifact.digest), intra_op_threads=self._intra_op_threads)
            folder = self._scratch / f"load-{uuid.uuid4().hex}"
            folder.mkdir()
            try:
                self._blobs.link(artifact.digest, folder / "model.onnx")
                self._blobs.link(artifact.data_digest, folder / artifact.data_name)
                return engine.load(folder / "model.onnx", intra_op_threads=self._intra_op_threads)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError as error:
            raise InvalidModel("failed to load: the artifact was deleted") from error


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
