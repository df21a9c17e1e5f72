"""What padding gives: requests a second for sequences of mixed lengths, with padding and without, in turn.

`python bench/padding.py MODEL.onnx SAMPLES.npz [--concurrency 8] [--rounds 7] [--requests 600]`

The samples are sequences padded with zeros, of which each request asks for one, without its padding: all dynamic axes
but the batch's must be that of the sequence. So many clients each wait for an answer before they ask again.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import engines
from app.blobs import open_store
from app.engines.cpu import usable_cores
from app.serving.batch_queue import Target
from app.serving.batcher import Batcher
from app.serving.batches import Work
from app.serving.padding import Padding, bucket
from app.serving.pool import Artifact, Pool
from app.serving.statistics import Statistics
from app.settings import Settings
from worker.evaluation.padding import check_padding, sequence_inputs


@dataclass(frozen=True)
class Run:
    per_second: float
    p95_ms: float
    rows_a_batch: float


def requests(path: Path, samples: Path, count: int) -> tuple[list[dict[str, NDArray[Any]]], Padding]:
    """Single sequences without their padding, and the proof that padding is harmless."""
    axes = sequence_inputs(path)
    model = engines.get("onnxruntime").load(path, intra_op_threads=1)
    with np.load(samples) as arrays:
        inputs = {name: arrays[name] for name in axes}
    used = np.logical_or.reduce([values != 0 for values in inputs.values()])
    lengths = used.shape[1] - used[:, ::-1].argmax(axis=1)
    chosen = np.random.default_rng(0).choice(len(used), count, replace=count > len(used))
    found = check_padding(model, model, axes, [{name: inputs[name][[row]] for name in axes} for row in chosen[:8]])
    if found.axes is None:
        raise SystemExit(f"padding is not harmless: {found.note}")
    cut = [{name: inputs[name][[row], : lengths[row]] for name in axes} for row in chosen]
    return cut, Padding.from_json(found.axes.model_dump())


def run(batcher: Batcher, counted: Statistics, target: Target, feeds: list[dict[str, Any]], clients: int) -> Run:
    waiting = iter(feeds)
    took: list[float] = []

    def ask() -> None:
        # An iterator over a list may be shared by threads.
        for feed in waiting:
            begin = time.perf_counter()
            batcher.submit(target, Work(feed)).result()
            took.append(time.perf_counter() - begin)

    before = counted.of(target.model, target.version)
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(ask) for _ in range(clients)]:
            future.result()
    seconds = time.perf_counter() - begin
    after = counted.of(target.model, target.version)
    rows, batches = (after[name] - before[name] for name in ("inference_count", "execution_count"))
    return Run(len(feeds) / seconds, 1000 * float(np.percentile(took, 95)), rows / batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=600)
    arguments = parser.parse_args()
    feeds, padding = requests(arguments.model, arguments.samples, arguments.requests)
    lengths = Counter(bucket(next(iter(feed.values())).shape[1]) for feed in feeds)
    print("requests by bucket:", dict(sorted(lengths.items())))

    with tempfile.TemporaryDirectory() as name:
        blobs = open_store(Settings(home=Path(name)))
        digest = hashlib.sha256(arguments.model.read_bytes()).hexdigest()
        copy = Path(name) / "model"
        copy.write_bytes(arguments.model.read_bytes())
        blobs.put(copy, digest)
        counted = Statistics()
        pool = Pool(blobs, Path(name), intra_op_threads=1)
        batcher = Batcher(pool, counted, threads=arguments.threads)
        plain = Target("plain", 1, Artifact("onnxruntime", digest), joins=True)
        targets = {"without": plain, "with": replace(plain, model="padded", padding=padding)}
        runs: dict[str, list[Run]] = {label: [] for label in targets}
        for number in range(arguments.rounds + 1):
            # Who goes first takes turns; the first round warms up.
            for label in sorted(targets, reverse=bool(number % 2)):
                measured = run(batcher, counted, targets[label], feeds, arguments.concurrency)
                if number:
                    runs[label].append(measured)
        batcher.close()
        pool.close()
    for label, measured_runs in runs.items():
        rate, p95, rows = (
            statistics.median(getattr(one, field) for one in measured_runs)
            for field in ("per_second", "p95_ms", "rows_a_batch")
        )
        print(f"{label:8} padding: {rate:7.1f} requests/s, p95 {p95:6.1f} ms, {rows:.2f} rows a batch")
    pairs = zip(runs["with"], runs["without"], strict=True)
    gains = sorted(one.per_second / other.per_second for one, other in pairs)
    low, middle, high = np.percentile(gains, [25, 50, 75])
    print(f"with padding {middle:.2f}x as many requests (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
