"""The table of methods: each of them on real models, by the very child process of a job.

`python bench/methods.py [--model M.onnx --dataset D.npz]… [--methods fp16,int8] [--option NAME=JSON]… [--threads 1]`

An option goes to the methods that have it: `--option per_channel=false --option activation_bits=6`.

All are judged on the same half of the samples, which no method may look at; `qat` is left out without torch. Without
arguments: the example that ships, and the models of `../shared/models` where these are. Where `NAME_scores.npy` lies
beside a dataset `NAME.npz` of sentence pairs (row i and row i + n), the Spearman correlation of the embeddings' cosine
with the scores is given too, over the pairs of which no sentence was looked at.
"""

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from app import engines
from app.contracts.job_spec import JobSpec
from app.contracts.methods import METHODS, checked_options
from app.contracts.outcome import Outcome
from app.engines.cpu import this_cpu, usable_cores
from app.errors import JobFailed
from app.intake.artifacts import Limits
from app.intake.dataset import check_dataset
from app.intake.dataset_file import Samples, open_dataset
from worker.child import Child
from worker.evaluation.split import split
from worker.job_log import JobLog
from worker.samples import Feeder

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "models"

COLUMNS = (
    *("model", "variant", "size", "ratio", "top-1", "Spearman", "agreement", "cosine"),
    *("latency p50 / p95", "speedup [95 %]", "job"),
)


@dataclass(frozen=True)
class Pair:
    model: Path
    dataset: Path

    @property
    def scores(self) -> Path:
        """Human scores of sentence pairs; it need not exist."""
        return self.dataset.with_name(f"{self.dataset.stem}_scores.npy")


def default_pairs() -> list[Pair]:
    pairs = [Pair(model, next((ROOT / "examples").glob("*.npz"))) for model in (ROOT / "examples").glob("*.onnx")]
    pairs += [Pair(model, SHARED / "cifar10_2000.npz") for model in sorted(SHARED.glob("cifar10_*.onnx"))]
    pairs += [Pair(model, SHARED / "stsb_dev.npz") for model in SHARED.glob("minilm.onnx")]
    return [pair for pair in pairs if pair.dataset.exists()]


def job(pair: Pair, method: str, folder: Path, threads: int, options: dict[str, Any]) -> Outcome:
    """Do one job in `folder` as the runner would, with those of `options` that the method has."""
    shutil.copy(pair.model, folder / "original.onnx")
    for data in pair.model.parent.glob(f"{pair.model.name}.data"):
        shutil.copy(data, folder / data.name)
    upload = Path(shutil.copy(pair.dataset, folder / f"upload{pair.dataset.suffix}"))
    check_dataset(upload, upload.name, folder, Limits(seconds=600, unpacked_bytes=2**34))
    upload.unlink()
    known = {name: value for name, value in options.items() if name in METHODS[method].options.model_fields}
    half = len(open_dataset(folder / "dataset.npz")) // 2
    JobSpec(
        method=method,
        options=checked_options(METHODS[method], {"evaluation_samples": half} | known),
        engine="onnxruntime",
        model="original.onnx",
        model_digest="",
        dataset="dataset.npz",
        dataset_name=pair.dataset.stem,
        intra_op_threads=threads,
    ).write(folder)
    memory = psutil.virtual_memory().total
    child = Child(folder, JobLog(), memory_bytes=memory, seconds=6 * 3600, file_bytes=memory)
    last: dict[str, Any] = {}
    for message in child.messages(every_seconds=60):
        last = message or last
    error = last.get("error") or ("" if "outcome" in last else child.crash(last.get("stage", "")))
    child.end()
    if error:
        raise JobFailed(error)
    return Outcome.model_validate(last["outcome"])


def spearman(pair: Pair, artifact: Path, samples: Samples, calibration: NDArray[np.int64]) -> float | None:
    """100 · Spearman's rank correlation between the cosines of sentence pairs and the scores people gave them.

    Only pairs neither of whose sentences is among those of `calibration` are judged, one sentence at a time.
    """
    if not pair.scores.exists():
        return None
    scores = np.load(pair.scores)
    calibrated = np.zeros(len(samples), bool)
    calibrated[calibration] = True
    kept = np.flatnonzero(~calibrated[: len(scores)] & ~calibrated[len(scores) :])
    model = engines.get("onnxruntime").load(artifact, intra_op_threads=usable_cores())
    feeder = Feeder(model.inputs, samples.arrays)
    first, second = (
        np.concatenate([model.run(batch.feeds)[0] for batch in feeder.batches(rows, 1)])
        for rows in (kept, kept + len(scores))
    )
    cosines = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return 100 * float(np.corrcoef(ranks(cosines), ranks(scores[kept]))[0, 1])


def looked_at(outcome: Outcome, samples: Samples) -> NDArray[np.int64]:
    """The half of the samples that methods may look at, whether or not this one did: all are judged on the same."""
    seed = outcome.report["dataset"]["split"]["seed"]
    return split(len(samples), seed=seed, calibration_samples=len(samples), evaluation_samples=1).calibration


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks from 0, ties sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles: NDArray[np.float64] = (ends - counts + ends - 1) / 2
    return middles[inverse]


def row(
    model: str,
    variant: str,
    size: int,
    outcome: Outcome,
    quality: float | None,
    seconds: float | None,
    *,
    original: bool,
) -> str:
    figures = outcome.original if original else outcome.variant
    ratio = size / outcome.report["size"]["original_bytes"]
    speedup = "1" if original else f"{figures.speedup:.2f} [{figures.speedup_low:.2f}, {figures.speedup_high:.2f}]"
    cells = [
        model,
        variant,
        f"{size / 1e6:.2f} MB",
        f"{ratio:.2f}",
        shown(figures.accuracy and 100 * figures.accuracy, "{:.1f} %"),
        shown(quality, "{:.2f}"),
        shown(figures.agreement and 100 * figures.agreement, "{:.1f} %"),
        shown(figures.cosine, "{:.4f}"),
        f"{figures.latency_p50_ms:.2f} / {figures.latency_p95_ms:.2f} ms",
        speedup,
        shown(seconds, "{:.0f} s"),
    ]
    return "| " + " | ".join(cells) + " |"


def usable_methods() -> list[str]:
    return [name for name, method in METHODS.items() if not method.trains or find_spec("torch") is not None]


def shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, action="append", default=[])
    arguments.add_argument("--dataset", type=Path, action="append", default=[])
    arguments.add_argument("--methods", default=",".join(usable_methods()))
    arguments.add_argument("--option", action="append", default=[], help="NAME=JSON")
    arguments.add_argument("--threads", type=int, default=1, help="cores that one inference uses")
    given = arguments.parse_args()
    if len(given.model) != len(given.dataset):
        arguments.error("give a --dataset for each --model, in the same order")
    pairs = [Pair(*pair) for pair in zip(given.model, given.dataset, strict=True)] or default_pairs()

    options = {name: json.loads(value) for name, value in (each.split("=", 1) for each in given.option)}

    cpu = this_cpu()
    print(f"{cpu.model} ({cpu.architecture}, VNNI: {cpu.vnni}), {cpu.cores} cores; {given.threads} a request\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|", flush=True)
    for pair in pairs:
        for number, method in enumerate(given.methods.split(",")):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                begun = time.monotonic()
                try:
                    outcome = job(pair, method, folder, given.threads, options)
                except JobFailed as error:
                    print(f"| {pair.model.stem} | {method} | {error.detail} |", flush=True)
                    continue
                seconds = time.monotonic() - begun
                size = outcome.report["size"]
                samples = open_dataset(folder / "dataset.npz")
                calibration = looked_at(outcome, samples)
                if number == 0:
                    quality = spearman(pair, folder / "original.onnx", samples, calibration)
                    print(
                        row(pair.model.stem, "original", size["original_bytes"], outcome, quality, None, original=True)
                    )
                quality = spearman(pair, folder / outcome.artifact, samples, calibration)
                line = row(pair.model.stem, method, size["variant_bytes"], outcome, quality, seconds, original=False)
                print(line, flush=True)


if __name__ == "__main__":
    main()
