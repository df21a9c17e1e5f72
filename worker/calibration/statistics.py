"""What calibration finds out about the tensors of a graph, and the file that keeps it for a later job."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.calibration.histogram import BINS, Histogram


@dataclass(frozen=True)
class ChannelStatistics:
    """Of each channel of a tensor: the mean, the mean of the squares, the largest absolute value.

    Each is (channels,) float64.
    """

    mean: NDArray[np.float64]
    mean_square: NDArray[np.float64]
    largest: NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """By tensor name: the histograms of whole tensors, and statistics of the channels of those that have any."""

    tensors: Mapping[str, Histogram]
    channels: Mapping[str, ChannelStatistics]


@dataclass(frozen=True)
class Pass:
    """The statistics of one pass over the samples; `fingerprint` tells what was asked of which graph."""

    fingerprint: str
    statistics: Statistics


#: Of the content of the file, and of how it is found: to be raised when either changes.
FORMAT = 1

_INDEX = "index"
_CHANNEL_FIELDS = ("mean", "mean_square", "largest")


def settings(options: Mapping[str, Any], engine: str) -> dict[str, Any] | None:
    """All that statistics depend on besides model and dataset; None for the options of a method without calibration.

    `engine` computes the tensors. Their names are what onnxruntime's optimizer leaves, and what is asked of a graph is
    in a pass's fingerprint.
    """
    if "calibration_samples" not in options:
        return None
    chosen = {name: options[name] for name in ("calibration_samples", "seed")}
    return chosen | {"format": FORMAT, "engine": engine, "onnxruntime": version("onnxruntime")}


def save(passes: Mapping[str, Pass], path: Path) -> None:
    """Write `passes`, by label, as one compressed `.npz` without pickled objects."""
    index: dict[str, Any] = {"format": FORMAT, "passes": []}
    arrays: dict[str, NDArray[Any]] = {}
    for number, (label, found) in enumerate(passes.items()):
        tensors, channels = found.statistics.tensors, found.statistics.channels
        index["passes"].append(
            {
                "label": label,
                "fingerprint": found.fingerprint,
                "tensors": list(tensors),
                "channels": {name: len(of.mean) for name, of in channels.items()},
            }
        )
        histograms = list(tensors.values())
        arrays[f"{number}.counts"] = np.array([one.counts for one in histograms]).reshape(-1, BINS)
        arrays[f"{number}.reals"] = np.array([(one.minimum, one.maximum, one.zeros) for one in histograms])
        arrays[f"{number}.integers"] = np.array([(one.exponent, one.first) for one in histograms], np.int64)
        for field in _CHANNEL_FIELDS:
            parts = [getattr(of, field) for of in channels.values()]
            arrays[f"{number}.{field}"] = np.concatenate(parts) if parts else np.zeros(0)
    arrays[_INDEX] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> dict[str, Pass]:
    """The passes in the file, by label. Raises `ValueError` for what `save` of this version did not write."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index = json.loads(arrays[_INDEX].tobytes())
            if index["format"] != FORMAT:
                raise ValueError(f"format {index['format']}")
            return {entry["label"]: _pass(entry, arrays, number) for number, entry in enumerate(index["passes"])}
    except Exception as error:
        # A damaged zip, deflate stream, header or index: each library has errors of its own.
        raise ValueError(f"no statistics of this version: {error}") from error


def _pass(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], number: int) -> Pass:
    tensors = {}
    reals, integers, counts = (arrays[f"{number}.{name}"] for name in ("reals", "integers", "counts"))
    for row, name in enumerate(entry["tensors"]):
        histogram = Histogram()
        histogram.minimum, histogram.maximum, histogram.zeros = (float(value) for value in reals[row])
        histogram.exponent, histogram.first = (int(value) for value in integers[row])
        histogram.counts = np.array(counts[row], np.float64).reshape(BINS)
        tensors[name] = histogram
    fields = [arrays[f"{number}.{field}"] for field in _CHANNEL_FIELDS]
    channels, start = {}, 0
    for name, size in entry["channels"].items():
        channels[name] = ChannelStatistics(*(np.array(field[start : start + size], np.float64) for field in fields))
        start += size
    if any(len(field) != start for field in fields):
        raise ValueError("channels are missing")
    return Pass(entry["fingerprint"], Statistics(tensors, channels))
