"""What calibration costs: time against as many FP32 inferences, and memory as samples grow.

`python bench/calibration.py [--model M.onnx --dataset D.npz] [--samples 256] [--rounds 5] [--most 10000]`

Time is taken in one process, inference and calibration in turn; memory is the peak of a process of its own, for 100
samples and for many more, of a dataset that is mapped from disk as a job maps it. onnxruntime's calibrators are given
the same samples, one at a time, as its tool does.
"""

import argparse
import contextlib
import io
import json
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

from app import engines
from app.engines.cpu import this_cpu, usable_cores
from app.intake.dataset_file import open_dataset
from worker import onnx_files
from worker.calibration.collect import collect
from worker.graph.prepare import prepare
from worker.graph.selection import select_static
from worker.repair.rungs import input_channels
from worker.samples import Feeder

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class OneByOne(CalibrationDataReader):  # type: ignore[misc]
    """The samples as onnxruntime's tool is given them."""

    def __init__(self, feeder: Feeder, indices: NDArray[np.int64]) -> None:
        self._feeds = (batch.feeds for batch in feeder.batches(indices, 1))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


class Subject:
    """A prepared model with what of it is observed, and its samples."""

    def __init__(self, model: Path, dataset: Path, folder: Path) -> None:
        self.prepared = prepare(Path(shutil.copy(model, folder)), folder)
        graph = onnx_files.load(self.prepared, weights=False)
        selection = select_static(graph)
        self.tensors = selection.activations
        self.channels = input_channels(graph, selection.nodes)
        self.arrays = open_dataset(dataset).arrays

    def calibrate(self, indices: NDArray[np.int64]) -> None:
        collect(
            self.prepared,
            self.tensors,
            self.arrays,
            indices,
            channels=self.channels,
            engine=engines.get("onnxruntime"),
            threads=usable_cores(),
            progress=lambda share: None,
        )


def peak_kib() -> int:
    """Of this process since it began; `getrusage` would count what its parent had as well."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def peak_mib(model: Path, dataset: Path, samples: int) -> float:
    """Of a process that calibrates on `samples` samples."""
    command = [sys.executable, __file__, "--alone", "--model", model, "--dataset", dataset, "--samples", samples]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)) / 1024


def canonical(dataset: Path, samples: int, folder: Path) -> Path:
    """The dataset as the service keeps it, repeated until it has `samples` samples."""
    arrays = {name: values for name, values in np.load(dataset).items() if name != "label"}
    repeated = {name: np.resize(values, (samples, *values.shape[1:])) for name, values in arrays.items()}
    target = folder / f"{samples}.npz"
    np.savez(target, **repeated)
    return target


def timed(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def times(subject: Subject, samples: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    indices = np.arange(samples)
    engine = engines.get("onnxruntime").load(subject.prepared, intra_op_threads=usable_cores())
    feeder = Feeder(engine.inputs, subject.arrays)

    def infer() -> None:
        for batch in feeder.batches(indices):
            engine.run(batch.feeds)

    def theirs(method: CalibrationMethod) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            calibrator = create_calibrator(
                subject.prepared, None, augmented_model_path=str(folder / "augmented.onnx"), calibrate_method=method
            )
            calibrator.collect_data(OneByOne(feeder, indices))
            calibrator.compute_data()

    contenders = {
        "FP32 inference": infer,
        "Octet, all methods at once": lambda: subject.calibrate(indices),
        "onnxruntime MinMax": lambda: theirs(CalibrationMethod.MinMax),
        "onnxruntime Entropy": lambda: theirs(CalibrationMethod.Entropy),
        "onnxruntime Percentile": lambda: theirs(CalibrationMethod.Percentile),
    }
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, action in contenders.items():
            found[name].append(timed(action))
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, default=EXAMPLES / "resnet20.onnx")
    arguments.add_argument("--dataset", type=Path, default=next(EXAMPLES.glob("*.npz")))
    arguments.add_argument("--samples", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--most", type=int, default=10_000)
    arguments.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.alone:
            Subject(given.model, given.dataset, folder).calibrate(np.arange(given.samples))
            print(json.dumps(peak_kib()))
            return
        many = canonical(given.dataset, given.most, folder)
        cpu = this_cpu()
        print(f"{given.model.stem}, {given.samples} samples; {cpu.model}, {cpu.cores} cores\n")
        found = times(Subject(given.model, many, folder), given.samples, given.rounds, folder)
        print("| | seconds, median | times FP32 inference (least to most) |\n|---|---|---|")
        base = found["FP32 inference"]
        for contender, seconds in found.items():
            ratios = [one / other for one, other in zip(seconds, base, strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {contender} | {statistics.median(seconds):.3f} | {ratio} |", flush=True)
        few, more = (peak_mib(given.model, many, samples) for samples in (100, given.most))
        print(f"\npeak memory: {few:.0f} MiB with 100 samples, {more:.0f} MiB with {given.most}: {more / few:.2f}x")


if __name__ == "__main__":
    main()
