"""From blobs to a model that is ready to answer."""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from app import engines
from app.blobs import BlobStore, linked
from app.engines import LoadedModel
from app.engines.engine import ModelLoader
from app.engines.warming import warm_up
from app.errors import InvalidModel, MissingBlob, OctetError, UnknownEngine
from app.isolation.engine import RunnerModel
from app.registry.tables import Variant
from app.scratch import private_folder

_log = logging.getLogger(__name__)

#: Smaller ones load in no time, and their weights are little beside the rest of a session.
_MAPPED_FROM_BYTES = 4 * 1024**2


@dataclass(frozen=True)
class Artifact:
    """What is loaded: an ONNX file, and its external data under the name that it has in the model."""

    engine: str
    digest: str
    data_digest: str | None = None
    data_name: str | None = None

    def __hash__(self) -> int:
        # Looked up for each request; a text remembers its hash, a tuple of texts does not.
        return hash(self.digest)

    @classmethod
    def of(cls, variant: Variant) -> "Artifact":
        return cls(variant.engine, variant.digest, variant.data_digest, variant.data_name)


class Loader:
    """Loads artifacts, and warms them. Its methods block, for as long as the engine takes.

    What is large is loaded from a form of the engine's own, which is made at the first load, and mapped into memory: it
    loads in a fraction of the time, takes about half the memory, and most of that once for all processes.
    """

    def __init__(
        self,
        blobs: BlobStore,
        scratch: Path,
        mapped: Path,
        *,
        intra_op_threads: int,
        engine: Callable[[str], ModelLoader] = engines.get,
    ) -> None:
        """`mapped`: where these forms are kept; on the same disk as `scratch`. `engine`: name → engine."""
        self._engine = engine
        self._blobs = blobs
        self._scratch = scratch
        self._mapped = mapped
        self._intra_op_threads = intra_op_threads

    def load(self, artifact: Artifact, leases: ExitStack, *, arena: bool = True) -> LoadedModel:
        """Load the model, and run it once to warm it up. Without `arena` it keeps less memory.

        The engine may map the files of the artifact into memory: `leases` gets the leases on them, and must stay open
        as long as the model is used.

        Raises:
            InvalidModel: It cannot be loaded.
            UnknownEngine: Its engine is not installed.
            Crashed: Loading it ended its process.
        """
        try:
            model = self._from_mapped(artifact, arena) or self._as_it_is(artifact, leases, arena)
        except MissingBlob as error:
            raise InvalidModel("failed to load: the artifact was deleted") from error
        try:
            warm_up(model)
        except BaseException:
            if isinstance(model, RunnerModel):
                model.close()
            raise
        return model

    def file_bytes(self, artifact: Artifact) -> int:
        """The size of the artifact's files: what it takes in memory at least; 0 when they are gone."""
        digests = filter(None, (artifact.digest, artifact.data_digest))
        try:
            return sum(self._blobs.size(digest) for digest in digests)
        except MissingBlob:
            return 0

    def forget(self, digest: str) -> None:
        """Remove what is kept of the artifact in the engine's own form; a process that has it in memory keeps that."""
        shutil.rmtree(self._mapped / digest, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what is kept of artifacts that are gone, or for builds of engines that are not these any more."""
        for kept in self._mapped.iterdir():
            if not self._blobs.exists(kept.name):
                self.forget(kept.name)
            for build in kept.glob("*"):
                if not self._is_current(build.name):
                    shutil.rmtree(build, ignore_errors=True)

    def _is_current(self, build: str) -> bool:
        try:
            return self._engine(build.partition("-")[0]).build() == build
        except UnknownEngine:
            return False

    def _from_mapped(self, artifact: Artifact, arena: bool) -> LoadedModel | None:
        """None where that is not worth while, or does not succeed."""
        if self.file_bytes(artifact) < _MAPPED_FROM_BYTES:
            return None
        engine = self._engine(artifact.engine)
        place = self._mapped / artifact.digest / engine.build()
        try:
            if not place.exists():
                self._make(artifact, place)
            path = next(place.glob("*.onnx"))
            return engine.load(path, intra_op_threads=self._intra_op_threads, arena=arena, saved=True)
        except (OctetError, OSError, StopIteration) as error:
            _log.warning("artifact %s is loaded as it is, unmapped: %r", artifact.digest[:12], error)
            shutil.rmtree(place, ignore_errors=True)
            return None

    def _make(self, artifact: Artifact, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with private_folder(self._scratch) as folder, ExitStack() as leases:
            source = self._place(artifact, folder, leases)
            made = folder / "made"
            made.mkdir()
            self._engine(artifact.engine).save(source, made)
            for file in made.iterdir():
                with file.open("rb") as written:
                    os.fsync(written)
            try:
                made.rename(place)
            except OSError:
                # Another process may have been quicker.
                if not place.exists():
                    raise

    def _as_it_is(self, artifact: Artifact, leases: ExitStack, arena: bool) -> LoadedModel:
        with private_folder(self._scratch) as folder:
            source = self._place(artifact, folder, leases)
            engine = self._engine(artifact.engine)
            return engine.load(source, intra_op_threads=self._intra_op_threads, arena=arena)

    def _place(self, artifact: Artifact, folder: Path, leases: ExitStack) -> Path:
        """Place the ONNX file in `folder`, with its external data beside it; returns the path of the ONNX file."""
        source = folder / "model.onnx"
        files = {source: artifact.digest}
        if artifact.data_digest is not None and artifact.data_name is not None:
            files[folder / artifact.data_name] = artifact.data_digest
        leases.enter_context(linked(self._blobs, files))
        return source
