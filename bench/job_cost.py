"""What an INT8 job costs, evaluation aside, against onnxruntime's `quantize_static` doing the same.

`python bench/job_cost.py [--model M.onnx --dataset D.npz] [--samples 256] [--rounds 3]`

Both calibrate on the same samples in the same process, one after the other in each round, so that a noisy machine
hits both. CPU seconds count all threads.
"""

import argparse
import contextlib
import io
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

from app import engines
from app.engines.cpu import this_cpu
from worker import methods
from worker.methods import CalibrationSamples, Task
from worker.samples import Feeder

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float


class OneByOne(CalibrationDataReader):  # type: ignore[misc]
    """The samples as onnxruntime's tool is given them."""

    def __init__(self, feeder: Feeder, indices: NDArray[np.int64]) -> None:
        self._feeds: Iterator[dict[str, Any]] = (batch.feeds for batch in feeder.batches(indices, 1))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def measured(action: Callable[[], object]) -> Cost:
    start, cpu = time.perf_counter(), time.process_time()
    action()
    return Cost(time.perf_counter() - start, time.process_time() - cpu)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, default=EXAMPLES / "resnet20.onnx")
    arguments.add_argument("--dataset", type=Path, default=next(EXAMPLES.glob("*.npz")))
    arguments.add_argument("--samples", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    logging.getLogger().setLevel(logging.ERROR)

    arrays = dict(np.load(given.dataset))
    indices = np.arange(min(given.samples, len(next(iter(arrays.values())))))
    engine = engines.get("onnxruntime")
    model = engine.load(given.model, intra_op_threads=1)
    feeder = Feeder(model.inputs, arrays)

    def infer() -> None:
        for batch in feeder.batches(indices):
            model.run(batch.feeds)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(shutil.copy(given.model, folder))
            samples = CalibrationSamples(arrays, indices)
            task = Task(source, Path(folder), {}, engine, this_cpu(), samples, lambda stage, share: None)
            methods.find("int8")(task)

    def theirs(**options: Any) -> Callable[[], None]:
        def action() -> None:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                quantize_static(given.model, Path(folder) / "q.onnx", OneByOne(feeder, indices), **options)

        return action

    best = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    contenders: dict[str, Callable[[], object]] = {
        f"{len(indices)} FP32 inferences": infer,
        "Octet int8": ours,
        "quantize_static, defaults": theirs(),
        "quantize_static, U8S8 per channel": theirs(**best),
        "quantize_static, percentile": theirs(calibrate_method=CalibrationMethod.Percentile, **best),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(given.rounds):
        for name, action in contenders.items():
            costs[name].append(measured(action))

    cpu = this_cpu()
    print(
        f"{given.model.name}, {len(indices)} samples, median of {given.rounds} rounds; {cpu.model}, {cpu.cores} cores\n"
    )
    print("| | wall s | CPU s |\n|---|---|---|")
    for name, found in costs.items():
        seconds = statistics.median(cost.seconds for cost in found)
        cpu_seconds = statistics.median(cost.cpu_seconds for cost in found)
        print(f"| {name} | {seconds:.2f} | {cpu_seconds:.2f} |")


if __name__ == "__main__":
    main()
