"""What loading and long serving do to a gateway: `python bench/loading.py [--soak 600] [--parts cycles,swaps,soak]`.

- cycles: resident memory after 500 times load, one request, unload of a large model, against that after 20;
- swaps: the 99th percentile of a small model's latency while a large one is loaded and unloaded, at least 100 times,
  against that of quiet blocks between;
- soak: resident memory and errors within `--soak` seconds at concurrency 32, against that after a warm-up.

The gateway is a process of its own on cores of its own; the requests come from the rest.
"""

import argparse
import http.client
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.engines.cpu import this_cpu
from contest import cases
from contest.cases import Source
from contest.contenders import OCTET
from contest.load import Exchange, drive
from contest.octet import Octet
from contest.ports import free_port
from contest.results import Spread
from contest.targets import Target

MIB = 1024**2

_PROCESSES = multiprocessing.get_context("fork")

CYCLES_GROWTH, SWAPS_P99, SOAK_GROWTH = 0.05, 0.10, 0.02

_WARMUP_CYCLES = 20
_BLOCK_SECONDS = 3
_SOAK_CONCURRENCY = 32
_SOAK_WARMUP_SECONDS = 30


@dataclass(frozen=True)
class Served:
    """A model of the gateway, and requests for it."""

    name: str
    exchanges: Sequence[Exchange]


class Gateway:
    def __init__(self, home: Path, cores: frozenset[int]) -> None:
        self._octet = Octet(home, free_port(), cores, worker=False)
        self._octet.server.start()
        self.port = self._octet.port
        self._process = psutil.Process(self._octet.server.pid)

    def serve(self, source: Source) -> Served:
        self._octet.upload(source)
        case = cases.cases(source, source.model)[0]
        return Served(source.name, OCTET[0].exchanges(case))

    def resident_bytes(self) -> int:
        resident: int = self._process.memory_info().rss
        return resident

    def load(self, model: Served) -> None:
        self._repository(model, "load")

    def unload(self, model: Served) -> None:
        self._repository(model, "unload")

    def stop(self) -> None:
        self._octet.server.stop()

    def _repository(self, model: Served, verb: str) -> None:
        # A connection each: the server closes those that are idle for longer than some blocks last.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with closing(connection):
            connection.request("POST", f"/v2/repository/models/{model.name}/{verb}")
            answer = connection.getresponse()
            content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{verb} of {model.name}: {answer.status} {content[:200]!r}")


class Watch(threading.Thread):
    """Resident memory of the gateway, twice a second."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        self._gateway = gateway
        self._done = threading.Event()
        self._samples: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self._done.wait(0.5):
            self._samples.append((time.perf_counter(), self._gateway.resident_bytes()))

    def stop(self) -> None:
        self._done.set()
        self.join()

    def median_bytes(self, start: float, seconds: float) -> float:
        """Of the samples from `start`, as `perf_counter` has it, on."""
        return statistics.median(size for at, size in self._samples if start <= at < start + seconds)


def cycles(gateway: Gateway, large: Served, count: int) -> Iterator[Target]:
    """Memory is read while the model is unloaded; of the last cycles the median, since it comes and goes by pages."""
    sizes = []
    for _ in range(count):
        gateway.load(large)
        errors = drive(gateway.port, large.exchanges[:1], 1, seconds=0, warmup=0).errors
        if errors:
            raise RuntimeError(errors[0])
        gateway.unload(large)
        sizes.append(gateway.resident_bytes())
    before = statistics.median(sizes[_WARMUP_CYCLES - 5 : _WARMUP_CYCLES])
    after = statistics.median(sizes[-5:])
    growth = after / before - 1
    what = f"{count} load/unload cycles of {large.name}: resident memory grows by at most {CYCLES_GROWTH:.0%}"
    yield Target(what, f"{before / MIB:.1f} → {after / MIB:.1f} MiB, {growth:+.1%}", growth <= CYCLES_GROWTH)


class Swapper:
    """Loads and unloads a model until told to stop, which raises what went wrong.

    A process of its own: a thread would share Python's lock with the sender, and its waiting would be taken for the
    server's.
    """

    def __init__(self, gateway: Gateway, model: Served) -> None:
        self._gateway = gateway
        self._model = model
        self._done = _PROCESSES.Event()
        self._count = _PROCESSES.Value("i", 0)
        self._process = _PROCESSES.Process(target=self._run, daemon=True)

    def start(self) -> None:
        self._process.start()

    @property
    def count(self) -> int:
        return int(self._count.value)

    def stop(self) -> None:
        self._done.set()
        self._process.join()
        if self._process.exitcode:
            raise RuntimeError(f"loading and unloading {self._model.name} failed")

    def _run(self) -> None:
        # The sender is never to wait for it.
        os.nice(19)
        while not self._done.is_set():
            self._gateway.load(self._model)
            self._gateway.unload(self._model)
            self._count.value += 1


def swaps(gateway: Gateway, small: Served, large: Served, count: int, concurrency: int) -> Iterator[Target]:
    """Blocks with swaps and blocks without take turns; ratios are those of neighbours."""
    gateway.load(small)
    quiet, swapping, swapped = [], [], 0
    while swapped < count:
        quiet.append(_p99_ms(gateway, small, concurrency))
        swapper = Swapper(gateway, large)
        swapper.start()
        swapping.append(_p99_ms(gateway, small, concurrency))
        swapper.stop()
        swapped += swapper.count
    ratio = Spread.of(busy / calm for busy, calm in zip(swapping, quiet, strict=True))
    what = f"p99 of {small.name} during {swapped} swaps of {large.name}: at most {1 + SWAPS_P99} times that without"
    figure = f"{statistics.median(quiet):.2f} → {statistics.median(swapping):.2f} ms, {ratio.shown('.2f')} times"
    yield Target(what, figure, ratio.median <= 1 + SWAPS_P99)


def _p99_ms(gateway: Gateway, small: Served, concurrency: int) -> float:
    turn = drive(gateway.port, small.exchanges, concurrency, _BLOCK_SECONDS)
    if turn.errors:
        raise RuntimeError(turn.errors[0])
    return turn.percentile_ms(99)


def soak(gateway: Gateway, small: Served, seconds: float) -> Iterator[Target]:
    """The medians of ten seconds after the warm-up and at the end."""
    watch = Watch(gateway)
    watch.start()
    warmup = min(_SOAK_WARMUP_SECONDS, seconds / 3)
    begun = time.perf_counter()
    turn = drive(gateway.port, small.exchanges, _SOAK_CONCURRENCY, seconds, warmup)
    ended = time.perf_counter()
    watch.stop()
    window = min(10.0, seconds / 3)
    before, after = watch.median_bytes(begun + warmup, window), watch.median_bytes(ended - window, window)
    growth = after / before - 1
    how = f"{seconds:g} s of {small.name} at concurrency {_SOAK_CONCURRENCY}"
    figure = f"{before / MIB:.1f} → {after / MIB:.1f} MiB, {growth:+.1%}"
    yield Target(f"{how}: resident memory grows by at most {SOAK_GROWTH:.0%}", figure, growth <= SOAK_GROWTH)
    found = f"{len(turn.errors)} of {turn.answered}" + (f", first {turn.errors[0]}" if turn.errors else "")
    yield Target(f"{how}: no errors", found, not turn.errors)


def large_source(models: Path, scratch: Path) -> Source:
    """MiniLM in FP32, 90 MB; without it, a perceptron of 64 MiB."""
    if (models / "minilm.onnx").exists():
        return Source("minilm", "MiniLM", models / "minilm.onnx", models / "stsb_dev.npz", "original", lengths=(32,))
    return Source("large-mlp", "MLP", cases.mlp(scratch / "large.onnx", hidden=64 * MIB // (74 * 4)), None, "original")


def small_source() -> Source:
    examples = cases.ROOT / "examples"
    return Source("resnet20", "ResNet-20", examples / "resnet20.onnx", examples / "cifar10_512.npz", "original")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--parts", default="cycles,swaps,soak")
    arguments.add_argument("--cycles", type=int, default=500)
    arguments.add_argument("--swaps", type=int, default=100)
    arguments.add_argument("--concurrency", type=int, default=1, help="of the requests beside the swaps")
    arguments.add_argument("--soak", type=float, default=600, help="seconds")
    arguments.add_argument("--server-cores", type=int, help="cores of the gateway; all but one by default")
    arguments.add_argument("--models", type=Path, default=cases.SHARED, help="folder of larger models")
    given = arguments.parse_args()
    parts = given.parts.split(",")

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    cores = sorted(os.sched_getaffinity(0))
    server_cores = frozenset(cores[: given.server_cores or max(1, len(cores) - 1)])
    os.sched_setaffinity(0, set(cores) - server_cores or {cores[-1]})
    cpu = this_cpu()
    print(f"{cpu.model}, {len(cores)} cores; the gateway on {len(server_cores)}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="octet-bench-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        gateway = Gateway(scratch / "home", server_cores)
        try:
            small, large = gateway.serve(small_source()), gateway.serve(large_source(given.models, scratch))
            if "cycles" in parts:
                shown(cycles(gateway, large, given.cycles))
            if "swaps" in parts:
                shown(swaps(gateway, small, large, given.swaps, given.concurrency))
            if "soak" in parts:
                shown(soak(gateway, small, given.soak))
        finally:
            gateway.stop()


def shown(found: Iterator[Target]) -> None:
    for target in found:
        print(target, flush=True)


if __name__ == "__main__":
    main()
