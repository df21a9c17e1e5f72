"""Octet's INT8 against onnxruntime's own tools, at their defaults and at their best settings.

`python bench/quantization.py [--model M.onnx --dataset D.npz]… [--rounds 300] [--threads 1]`

All contenders calibrate on the same 256 samples and are judged on the rest, which none of them has seen. Latency is
measured in one run: in each round every contender answers the same request, in an order drawn anew. Without arguments:
the example that ships, and the models of `../shared/models` where these are. Where `NAME_scores.npy` lies beside a
dataset `NAME.npz` of sentence pairs, Spearman's correlation with these scores is given too.
"""

import argparse
import contextlib
import io
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from app import engines
from app.engines import LoadedModel
from app.engines.cpu import this_cpu, usable_cores
from app.intake.artifacts import Limits
from app.intake.dataset import check_dataset
from app.intake.dataset_file import Samples, open_dataset
from methods import Pair, default_pairs, shown, spearman
from worker import methods, onnx_files
from worker.evaluation.heldout import Comparison, compare
from worker.evaluation.latency import speedup_interval
from worker.evaluation.split import Split, split
from worker.methods import CalibrationSamples, Task
from worker.samples import Feeder, Feeds

ENGINE = engines.get("onnxruntime")
CALIBRATION_SAMPLES = 256
BATCHES = (1, 8)
COLUMNS = ("contender", "size", "top-1", "Spearman", "agreement", "cosine", "speedup, batch 1", "batch 8", "made in")

U8S8 = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}


@dataclass(frozen=True)
class Contender:
    """Makes an artifact in a folder from the model there; `alone`: it is judged one sample at a time."""

    name: str
    make: Callable[[Path, Path, Samples, Split], Path]
    alone: bool = False


class OneByOne(CalibrationDataReader):  # type: ignore[misc]
    """The samples as onnxruntime's tool is given them."""

    def __init__(self, source: Path, samples: Samples, parts: Split) -> None:
        model = ENGINE.load(source, intra_op_threads=1)
        feeder = Feeder(model.inputs, samples.arrays)
        self._feeds: Iterator[Feeds] = (batch.feeds for batch in feeder.batches(parts.calibration, 1))

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def ours(method: str) -> Callable[[Path, Path, Samples, Split], Path]:
    def make(source: Path, folder: Path, samples: Samples, parts: Split) -> Path:
        own = Path(shutil.copy(source, folder / "original.onnx"))
        calibration = CalibrationSamples(samples.arrays, parts.calibration)
        task = Task(own, folder, {}, ENGINE, this_cpu(), calibration, lambda stage, share: None)
        return methods.find(method)(task).artifact

    return make


def static(*, prepared: bool, **options: Any) -> Callable[[Path, Path, Samples, Split], Path]:
    def make(source: Path, folder: Path, samples: Samples, parts: Split) -> Path:
        if prepared:
            try:
                quant_pre_process(source, folder / "prepared.onnx")
            except Exception:  # noqa: BLE001 - it raises just that, where its shape inference gives up
                quant_pre_process(source, folder / "prepared.onnx", skip_symbolic_shape=True)
            source = folder / "prepared.onnx"
        quantize_static(source, folder / "made.onnx", OneByOne(source, samples, parts), **options)
        return folder / "made.onnx"

    return make


def dynamic(**options: Any) -> Callable[[Path, Path, Samples, Split], Path]:
    def make(source: Path, folder: Path, samples: Samples, parts: Split) -> Path:
        quantize_dynamic(source, folder / "made.onnx", **options)
        return folder / "made.onnx"

    return make


def contenders(operators: set[str]) -> list[Contender]:
    """Dynamic ones only for models led by MatMul: for convolutions onnxruntime's own advice is against it."""
    found = [
        Contender("Octet int8", ours("int8")),
        Contender("onnxruntime static, defaults", static(prepared=False)),
        Contender("onnxruntime static, U8S8 per channel", static(prepared=True, **U8S8)),
        Contender(
            "onnxruntime static, U8S8 per channel, percentile",
            static(prepared=True, calibrate_method=CalibrationMethod.Percentile, **U8S8),
        ),
    ]
    if "Conv" in operators:
        return found
    matmuls = {"op_types_to_quantize": ["MatMul", "Gemm"]}
    return [
        *found[:3],
        Contender("onnxruntime static, U8S8 per channel, MatMul only", static(prepared=True, **U8S8, **matmuls)),
        Contender("Octet dynamic", ours("dynamic"), alone=True),
        Contender("onnxruntime dynamic, defaults", dynamic(), alone=True),
        Contender("onnxruntime dynamic, per channel", dynamic(per_channel=True), alone=True),
    ]


@dataclass(frozen=True)
class Entry:
    name: str
    ratio: float
    quality: Comparison
    spearman: float | None
    seconds: float
    model: LoadedModel


def entered(contender: Contender, pair: Pair, samples: Samples, parts: Split, folder: Path, threads: int) -> Entry:
    folder.mkdir()
    start = time.perf_counter()
    # The tools print and log advice, and leave files where they are called.
    quiet = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        artifact = contender.make(pair.model.resolve(), folder, samples, parts)
    seconds = time.perf_counter() - start
    many = usable_cores()
    original, variant = (ENGINE.load(path, intra_op_threads=many) for path in (pair.model, artifact))
    quality = compare(
        original,
        variant,
        Feeder(original.inputs, samples.arrays),
        parts.evaluation,
        samples.labels,
        batch=1 if contender.alone else None,
        progress=lambda share: None,
    )
    return Entry(
        contender.name,
        onnx_files.size_bytes(artifact) / onnx_files.size_bytes(pair.model),
        quality,
        spearman(pair, artifact, samples, parts.calibration),
        seconds,
        ENGINE.load(artifact, intra_op_threads=threads),
    )


def latencies(models: list[LoadedModel], requests: list[Feeds], rounds: int) -> NDArray[np.float64]:
    """Seconds `(rounds, models)`; every model answers the request of a round, in random order."""
    random = np.random.default_rng(0)
    table = np.zeros((rounds, len(models)))
    for number in range(-3, rounds):
        for position in random.permutation(len(models)):
            start = time.perf_counter()
            models[position].run(requests[number % len(requests)])
            if number >= 0:
                table[number, position] = time.perf_counter() - start
    return table


def ratios(table: NDArray[np.float64]) -> list[str]:
    """Of each model but the first, the ratio of medians to it, and its 95 % interval."""
    cells = []
    for position in range(1, table.shape[1]):
        pairs = table[:, [0, position]]
        low, high = speedup_interval(pairs, seed=0)
        cells.append(f"{np.median(pairs[:, 0]) / np.median(pairs[:, 1]):.2f} [{low:.2f}, {high:.2f}]")
    return cells


def table(pair: Pair, samples: Samples, folder: Path, rounds: int, threads: int) -> Iterator[str]:
    parts = split(len(samples), seed=0, calibration_samples=CALIBRATION_SAMPLES, evaluation_samples=len(samples))
    operators = {node.op_type for node in onnx_files.load(pair.model, weights=False).graph.node}
    entries = []
    for number, contender in enumerate(contenders(operators)):
        try:
            entries.append(entered(contender, pair, samples, parts, folder / str(number), threads))
        except Exception as error:  # noqa: BLE001 - a tool that gives up is a result
            yield f"| {contender.name} | fails: {type(error).__name__}: {str(error).splitlines()[0][:120]} |"
    original = ENGINE.load(pair.model, intra_op_threads=threads)
    models = [original, *(entry.model for entry in entries)]
    feeder = Feeder(original.inputs, samples.arrays)
    speeds = []
    for batch in BATCHES:
        requests = [made.feeds for made in feeder.batches(parts.evaluation[: 16 * batch], batch)]
        speeds.append(ratios(latencies(models, requests, rounds)))
    score = spearman(pair, pair.model, samples, parts.calibration)
    yield row("original", 1.0, entries[0].quality.figure("accuracy").original, score, None, None, "1", "1", "")
    for number, entry in enumerate(entries):
        quality = entry.quality
        yield row(
            entry.name,
            entry.ratio,
            quality.figure("accuracy").variant,
            entry.spearman,
            quality.figure("agreement").variant,
            quality.figure("cosine").variant,
            *(cells[number] for cells in speeds),
            f"{entry.seconds:.1f} s",
        )


def row(
    name: str,
    ratio: float,
    accuracy: float | None,
    score: float | None,
    agreement: float | None,
    cosine: float | None,
    *others: str,
) -> str:
    cells = [
        name,
        f"{ratio:.2f}",
        shown(accuracy and 100 * accuracy, "{:.2f} %"),
        shown(score, "{:.2f}"),
        shown(agreement and 100 * agreement, "{:.1f} %"),
        shown(cosine, "{:.4f}"),
        *others,
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, action="append", default=[])
    arguments.add_argument("--dataset", type=Path, action="append", default=[])
    arguments.add_argument("--rounds", type=int, default=300)
    arguments.add_argument("--threads", type=int, default=1, help="cores that one inference uses")
    given = arguments.parse_args()
    if len(given.model) != len(given.dataset):
        arguments.error("give a --dataset for each --model, in the same order")
    logging.disable(logging.WARNING)
    cpu = this_cpu()
    print(f"{cpu.model} ({cpu.architecture}, VNNI: {cpu.vnni}), {cpu.cores} cores; {given.threads} a request")
    # Contenders work in folders of their own.
    named = [Pair(*(path.resolve() for path in pair)) for pair in zip(given.model, given.dataset, strict=True)]
    for pair in named or default_pairs():
        print(f"\n{pair.model.stem}\n\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            upload = Path(shutil.copy(pair.dataset, folder / f"upload{pair.dataset.suffix}"))
            check_dataset(upload, upload.name, folder, Limits(seconds=600, unpacked_bytes=2**34))
            samples = open_dataset(folder / "dataset.npz")
            for line in table(pair, samples, folder, given.rounds, given.threads):
                print(line, flush=True)


if __name__ == "__main__":
    main()
