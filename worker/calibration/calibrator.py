"""The statistics that a job asks for: what an earlier job found on the same samples, or a pass over them."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from app.digest import sha256_of
from app.engines import Engine
from worker.calibration import statistics
from worker.calibration.collect import collect
from worker.calibration.statistics import Pass, Statistics
from worker.samples import Indices

FILE_NAME = "statistics.npz"

_log = logging.getLogger(__name__)


class Samples(Protocol):
    """`indices` into the first axis of `arrays`, and the file of an earlier job on the same, if there was one."""

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def indices(self) -> Indices: ...
    @property
    def known(self) -> Path | None: ...


class Calibrator:
    """Collects statistics for one job, each pass once."""

    def __init__(self, samples: Samples, *, engine: Engine, threads: int) -> None:
        self._samples = samples
        self._engine = engine
        self._threads = threads
        self._passes = _known(samples.known)
        self._is_new = False

    def statistics(
        self,
        label: str,
        model: Path,
        tensors: Sequence[str],
        channels: Mapping[str, int],
        *,
        progress: Callable[[float], None],
    ) -> Statistics:
        """What `collect` finds with these arguments, which may be known from an earlier job under this `label`.

        It is, when that job asked the same of the same graph, byte for byte; what differs is collected anew.
        """
        fingerprint = _fingerprint(model, tensors, channels)
        found = self._passes.get(label)
        if found is not None and found.fingerprint == fingerprint:
            progress(1.0)
            return found.statistics
        collected = collect(
            model,
            tensors,
            self._samples.arrays,
            self._samples.indices,
            channels=channels,
            engine=self._engine,
            threads=self._threads,
            progress=progress,
        )
        self._passes[label] = Pass(fingerprint, collected)
        self._is_new = True
        return collected

    def save(self, folder: Path) -> Path | None:
        """Write all that is known by now to a file in `folder`; None when an earlier job knew it all."""
        if not self._is_new:
            return None
        path = folder / FILE_NAME
        statistics.save(self._passes, path)
        return path


def _known(path: Path | None) -> dict[str, Pass]:
    if path is None:
        return {}
    try:
        return statistics.load(path)
    except ValueError as error:
        _log.warning("what an earlier job found in calibration is of no use: %s", error)
        return {}


def _fingerprint(model: Path, tensors: Sequence[str], channels: Mapping[str, int]) -> str:
    asked = json.dumps([sha256_of(model), list(tensors), sorted(channels.items())])
    return hashlib.sha256(asked.encode()).hexdigest()
