"""Variants in memory: loaded once, in a thread that holds up nobody, and kept within a limit of bytes."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app import engines
from app.blobs import BlobStore
from app.engines import LoadedModel
from app.engines.engine import ModelLoader
from app.errors import Crashed
from app.isolation.engine import RunnerModel, proportional_bytes
from app.serving.crashes import Crashes
from app.serving.loading import Artifact, Loader
from app.serving.memory import give_back_freed, resident_bytes
from app.serving.threads import lower_priority

__all__ = ["Artifact", "Lease", "Pool"]

_log = logging.getLogger(__name__)

# Loads wait for so long, at most, until those who run on what had to go are done.
_PATIENCE_S = 10.0


class _Entry:
    """One artifact: asked for, loaded, or on its way out. Guarded by the pool's lock.

    `files` leases what it was loaded from; `waiters` hold while it loads; `out` is set once its memory was freed.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.files = ExitStack()
        self.model: LoadedModel | None = None
        self.size_bytes = 0
        self.leases = 0
        self.retired = False
        self.waiters: list[Future[Lease]] = []
        self.out = threading.Event()


class Lease:
    """The right to run a model, which stays in memory until `release`. Released once, by whoever holds it."""

    __slots__ = ("_entry", "_pool", "model")

    def __init__(self, pool: "Pool", entry: _Entry, model: LoadedModel) -> None:
        self._pool = pool
        self._entry = entry
        self.model = model

    def release(self) -> None:
        # Whoever keeps a released lease (a future, a traceback) does not keep the model with it.
        del self.model
        self._pool._released(self._entry)


class Pool:
    """Loaded artifacts, least recently used ones evicted first. Its methods may be called from many threads at once.

    Loads happen one after the other in one thread of low priority: requests for other models go on, and what one
    load adds to the process's memory can be told. Whoever is about to be evicted or unloaded first ends its requests.
    """

    def __init__(
        self,
        blobs: BlobStore,
        scratch: Path,
        mapped: Path,
        *,
        intra_op_threads: int,
        memory_bytes: int | None = None,
        engine: Callable[[str], ModelLoader] = engines.get,
    ) -> None:
        """`scratch`, `mapped`, `engine`: as for `Loader`. `memory_bytes`: what all loaded models may take together;
        None for no limit."""
        self._files = Loader(blobs, scratch, mapped, intra_op_threads=intra_op_threads, engine=engine)
        self._crashes = Crashes()
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        # The least recently used first.
        self._entries: dict[Artifact, _Entry] = {}
        self._pinned: set[Artifact] = set()
        self._loads = ThreadPoolExecutor(1, "octet-load", lower_priority)

    def acquire(self, artifact: Artifact) -> "Future[Lease]":
        """A lease, at once when the artifact is loaded, and else when it is; callers that come meanwhile share a load.

        The future fails with `InvalidModel` when it cannot be loaded, `Crashed` when that ends its process; the next
        call tries again. One that has crashed often lately is left alone for a while: `Quarantined`.
        """
        future: Future[Lease] = Future()
        with self._lock:
            quarantined = self._crashes.refusal(artifact)
            if quarantined is not None and artifact not in self._entries:
                future.set_exception(quarantined)
                return future
            entry = self._entries.pop(artifact, None)
            first = entry is None
            entry = self._entries[artifact] = entry or _Entry(artifact)
            if entry.model is None:
                entry.waiters.append(future)
            else:
                entry.leases += 1
                future.set_result(Lease(self, entry, entry.model))
        if first:
            self._loads.submit(self._load, entry)
        return future

    def acquire_loaded(self, artifact: Artifact) -> Lease | None:
        """A lease if the artifact is loaded already; never waits."""
        with self._lock:
            entry = self._entries.get(artifact)
            if entry is None or entry.model is None:
                return None
            entry.leases += 1
            if next(reversed(self._entries)) is not artifact:
                self._entries[artifact] = self._entries.pop(artifact)
            return Lease(self, entry, entry.model)

    @contextmanager
    def lease(self, artifact: Artifact) -> Iterator[LoadedModel]:
        """The model, which stays in memory within the block. Blocks while it loads; raises as `acquire`'s future."""
        lease = self.acquire(artifact).result()
        try:
            yield lease.model
        finally:
            lease.release()

    def load(self, artifact: Artifact) -> None:
        """Have it loaded when this returns. Raises `InvalidModel` when it cannot be."""
        self.acquire(artifact).result().release()

    def unload(self, artifact: Artifact, *, timeout_s: float = 30) -> bool:
        """Forget it, and wait until its running requests ended and its memory was freed; False: not in that time.

        Requests that come meanwhile load it anew.
        """
        return all(entry.out.wait(timeout_s) for entry in self._retire([artifact]))

    def drop(self, digests: set[str]) -> None:
        """Forget artifacts whose ONNX file is among `digests`, without waiting; requests that run on them still end."""
        with self._lock:
            gone = [artifact for artifact in self._entries if artifact.digest in digests]
        self._retire(gone)

    def forget(self, digests: set[str]) -> None:
        """As `drop`, of artifacts that do not come back: what is kept of them on disk to load them sooner goes too."""
        self.drop(digests)
        for digest in digests:
            self._files.forget(digest)

    def tidy(self) -> None:
        """As `Loader.tidy`, once when the process starts."""
        self._files.tidy()

    def pin(self, artifacts: set[Artifact]) -> None:
        """Never evict these from now on, and no others; they may still be unloaded or dropped."""
        with self._lock:
            self._pinned = artifacts

    def preload(self, artifact: Artifact) -> None:
        """Have it loaded when its turn comes, without waiting; one that cannot be is logged."""

        def done(loading: "Future[Lease]") -> None:
            error = loading.exception()
            if error is None:
                loading.result().release()
            else:
                _log.error("a pinned variant cannot be loaded: %s", error)

        self.acquire(artifact).add_done_callback(done)

    def is_loaded(self, artifact: Artifact) -> bool:
        with self._lock:
            entry = self._entries.get(artifact)
            return entry is not None and entry.model is not None

    def loaded_bytes(self) -> dict[Artifact, int]:
        """What is loaded, the least recently used first, and the memory that each was measured to take."""
        with self._lock:
            return {artifact: entry.size_bytes for artifact, entry in self._entries.items() if entry.model is not None}

    def resident_bytes(self) -> int:
        """What the processes of isolated models take of memory, besides this one's."""
        with self._lock:
            models = [entry.model for entry in self._entries.values()]
        return sum(proportional_bytes(model.process) for model in models if isinstance(model, RunnerModel))

    def quarantined(self, artifact: Artifact) -> str | None:
        """Why it is not started at present: it crashed too often. None otherwise."""
        refusal = self._crashes.refusal(artifact)
        return None if refusal is None else refusal.detail

    def crashes(self) -> dict[Artifact, int]:
        """How often the process of each artifact has ended by itself, of those that ever did."""
        return self._crashes.counts()

    def close(self) -> None:
        """Load nothing any more; what is loaded stays until the process ends."""
        self._loads.shutdown(wait=False, cancel_futures=True)

    def _load(self, entry: _Entry) -> None:
        """In the loading thread: load, measure, and hand leases to all who wait."""
        try:
            at_least = self._files.file_bytes(entry.artifact)
            short = self._make_room(at_least)
            before = resident_bytes()
            model = self._files.load(entry.artifact, entry.files, arena=not short)
            # What the engine parsed and repacked is more than what it keeps: three times the weights stay otherwise.
            give_back_freed()
            grown = resident_bytes() - before
            if isinstance(model, RunnerModel):
                grown = model.resident_bytes()
        except BaseException as error:  # noqa: BLE001 - told to those who wait
            self._failed(entry, error)
            return
        # Memory that others free meanwhile hides growth, but no model takes less than its weights.
        entry.size_bytes = max(grown, at_least)
        going = self._retire(self._victims(0, sparing=entry))
        self._loaded(entry, model)
        del model
        self._see_out(going)

    def _loaded(self, entry: _Entry, model: LoadedModel) -> None:
        with self._lock:
            entry.model = model
            waiters = [future for future in entry.waiters if future.set_running_or_notify_cancel()]
            entry.waiters.clear()
            entry.leases += len(waiters)
            unwanted = entry.retired and not entry.leases
        if unwanted:
            self._free(entry)
        for future in waiters:
            future.set_result(Lease(self, entry, model))

    def _failed(self, entry: _Entry, error: BaseException) -> None:
        with self._lock:
            if isinstance(error, Crashed):
                self._crashes.note(entry.artifact)
            if self._entries.get(entry.artifact) is entry:
                del self._entries[entry.artifact]
            waiters = [future for future in entry.waiters if future.set_running_or_notify_cancel()]
            entry.waiters.clear()
        entry.files.close()
        entry.out.set()
        for future in waiters:
            future.set_exception(error)

    def _make_room(self, wanted_bytes: int) -> bool:
        """Evict until `wanted_bytes` fit too, as far as there is what may go; whether anything had to."""
        going = self._retire(self._victims(wanted_bytes))
        self._see_out(going)
        return bool(going)

    def _see_out(self, going: list[_Entry]) -> None:
        for entry in going:
            if not entry.out.wait(_PATIENCE_S):
                _log.warning("an evicted model is still running after %s s; loading all the same", _PATIENCE_S)

    def _victims(self, wanted_bytes: int, sparing: _Entry | None = None) -> list[Artifact]:
        """The least recently used first, those at rest before those that run; pinned ones never."""
        if self._memory_bytes is None:
            return []
        with self._lock:
            excess = sum(entry.size_bytes for entry in self._entries.values()) + wanted_bytes - self._memory_bytes
            may_go = [
                entry
                for artifact, entry in self._entries.items()
                if entry.model is not None and entry is not sparing and artifact not in self._pinned
            ]
            may_go.sort(key=lambda entry: entry.leases > 0)
            victims = []
            for entry in may_go:
                if excess <= 0:
                    break
                excess -= entry.size_bytes
                victims.append(entry.artifact)
            return victims

    def _retire(self, artifacts: list[Artifact]) -> list[_Entry]:
        """Nobody new gets these; each is freed when its last lease is released, at once when it has none."""
        with self._lock:
            going = [entry for artifact in artifacts if (entry := self._entries.pop(artifact, None)) is not None]
            for entry in going:
                entry.retired = True
            idle = [entry for entry in going if entry.model is not None and not entry.leases]
        for entry in idle:
            self._free(entry)
        return going

    def _released(self, entry: _Entry) -> None:
        with self._lock:
            entry.leases -= 1
            if isinstance(entry.model, RunnerModel) and entry.model.is_dead and not entry.retired:
                # Whoever comes next has it started anew.
                self._crashes.note(entry.artifact)
                self._entries.pop(entry.artifact, None)
                entry.retired = True
            last = entry.retired and not entry.leases and not entry.waiters
        if last:
            self._free(entry)

    def _free(self, entry: _Entry) -> None:
        model, entry.model = entry.model, None
        if isinstance(model, RunnerModel):
            model.close()
        del model
        entry.files.close()
        give_back_freed()
        entry.out.set()
