"""What overloaded shadows do to the users: `python bench/shadowing.py [--rounds 15] [--seconds 2] [--cores 1]`.

Users ask the `int8` of a model, whose every request the original, slower, is to answer too: more than the gateway's
cores have time for, so that the queue of shadows is full and most are dropped. In turn with it, the same without a
shadow, by the same gateway and the same file; ratios are taken within rounds. Users ask without a pause, one or four
at a time, and at a pace that leaves half of the core to the shadows.

The gateway is a process on cores of its own; the requests come from the rest.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.engines.cpu import this_cpu
from contest import cases, wire
from contest.cases import Source
from contest.contenders import Row
from contest.load import Exchange, Turn, drive, pace
from contest.octet import Octet
from contest.ports import free_port
from contest.results import Spread

MOST = 1.10

_DRAIN_SECONDS = 120
_SPLIT = Row("split", wire.oip_binary, "/v2/models/{model}/infer")

#: Sends for some seconds.
Load = Callable[[Sequence[Exchange]], Turn]


@dataclass(frozen=True)
class Trial:
    """A model whose `int8` users ask, within an experiment at `address`."""

    address: str
    exchanges: Sequence[Exchange]


@dataclass(frozen=True)
class Compared:
    """Of one round: the turns without shadows and with them, and how many of these were dropped."""

    plain: Turn
    shadowed: Turn
    answered: int
    dropped: int

    def ratio(self, percentile: float) -> float:
        return self.shadowed.percentile_ms(percentile) / self.plain.percentile_ms(percentile)


class Bench:
    def __init__(self, octet: Octet, scratch: Path) -> None:
        self._octet = octet
        self._scratch = scratch

    def trial(self, source: Source, *, shadow: bool) -> Trial:
        self._octet.upload(source)
        folder = self._scratch / source.name
        folder.mkdir()
        case = cases.cases(source, self._octet.download(source, folder))[0]
        arms = [{"variant": "int8", "weight": 1, "control": True}, {"variant": "original", "weight": 0}]
        shadows = [{"variant": "original", "sample": 1.0}] if shadow else []
        definition = {"name": "overload", "arms": arms, "shadow": shadows}
        created = self._octet.http.post(f"/api/v1/models/{source.name}/experiments", json=definition)
        address = created.raise_for_status().headers["Location"]
        self._octet.http.post(f"{address}/start").raise_for_status()
        asked = [_of_a_unit(exchange) for exchange in _SPLIT.exchanges(case)]
        return Trial(address, asked)

    def compare(self, plain: Trial, shadowed: Trial, load: Load, *, shadows_first: bool) -> Compared:
        before = self._settled(shadowed)
        quiet = load(plain.exchanges) if not shadows_first else None
        busy = load(shadowed.exchanges)
        after = self._settled(shadowed)
        quiet = quiet or load(plain.exchanges)
        answered, pairs = (later - earlier for later, earlier in zip(after, before, strict=True))
        for turn in (quiet, busy):
            if turn.errors:
                sys.exit(f"{len(turn.errors)} requests failed: {turn.errors[0]}")
        return Compared(quiet, busy, answered, answered - pairs)

    def _settled(self, trial: Trial) -> tuple[int, int]:
        """Requests and pairs so far, once no shadow waits any more."""
        deadline, seen = time.monotonic() + _DRAIN_SECONDS, (-1, -1)
        while time.monotonic() < deadline:
            results = self._octet.http.get(trial.address).raise_for_status().json()["results"]
            now = results["arms"][0]["requests"], sum(each["pairs"] for each in results["shadows"])
            if now == seen:
                return now
            seen = now
            time.sleep(0.8)
        sys.exit(f"shadows were still at it after {_DRAIN_SECONDS} s")


def _of_a_unit(exchange: Exchange) -> Exchange:
    return replace(exchange, request=exchange.request.replace(b"\r\n", b"\r\nX-Unit-Id: user-1\r\n", 1))


def sources(models: Path) -> list[Source]:
    """The example that ships, and the MobileNetV2 of `models` where that is there."""
    examples = cases.ROOT / "examples"
    found = [Source("resnet20", "ResNet-20", examples / "resnet20.onnx", examples / "cifar10_512.npz", "int8")]
    mobile = models / "cifar10_mobilenetv2.onnx"
    if mobile.exists():
        found.append(Source("mobilenetv2", "MobileNetV2", mobile, models / "cifar10_2000.npz", "int8"))
    return found


def loads(port: int, exchanges: Sequence[Exchange], seconds: float) -> dict[str, Load]:
    half = drive(port, exchanges, 1, 2.0).per_second / 2
    return {
        "one at a time": lambda asked: drive(port, asked, 1, seconds),
        "four at a time": lambda asked: drive(port, asked, 4, seconds),
        f"{half:.0f} a second": lambda asked: pace(port, asked, half, seconds),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--seconds", type=float, default=2, help="of one turn")
    arguments.add_argument("--cores", type=int, default=1, help="of the gateway")
    arguments.add_argument("--models", type=Path, default=cases.SHARED, help="folder of larger models")
    arguments.add_argument("--only", help="name of one model")
    arguments.add_argument(
        "--neighbour",
        action="store_true",
        help="another program computes on the gateway's cores all the time",
    )
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    cores = sorted(os.sched_getaffinity(0))
    gateway_cores = frozenset(cores[: given.cores])
    os.sched_setaffinity(0, set(cores) - gateway_cores or {cores[-1]})
    print(f"{this_cpu().model}, {len(cores)} cores, the gateway on {given.cores}; {given.rounds} rounds\n")
    print("| model | users ask | p99 without, ms | p99 with shadows, ms | ratio | ratio of p50 | shadows dropped |")
    print("|---|---|---|---|---|---|---|", flush=True)
    met = True
    with tempfile.TemporaryDirectory(prefix="octet-bench-", ignore_cleanup_errors=True) as name:
        octet = Octet(Path(name) / "home", free_port(), gateway_cores)
        octet.server.start()
        neighbours = [_neighbour(core) for core in gateway_cores if given.neighbour]
        try:
            bench = Bench(octet, Path(name))
            for source in sources(given.models):
                if given.only in {None, source.name}:
                    met &= measure(bench, octet.port, source, given.rounds, given.seconds)
        finally:
            for neighbour in neighbours:
                neighbour.kill()
            octet.server.stop()
    print(f"\n{'met' if met else 'MISSED'}: a 99th percentile of at most {MOST} times that without shadows")


def _neighbour(core: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )


def measure(bench: Bench, port: int, source: Source, rounds: int, seconds: float) -> bool:
    plain = bench.trial(replace(source, name=f"{source.name}-plain"), shadow=False)
    shadowed = bench.trial(source, shadow=True)
    met = True
    for title, load in loads(port, plain.exchanges, seconds).items():
        found = [bench.compare(plain, shadowed, load, shadows_first=bool(round % 2)) for round in range(rounds)]
        p50, p99 = (Spread.of(each.ratio(percentile) for each in found) for percentile in (50, 99))
        without = Spread.of(each.plain.percentile_ms(99) for each in found)
        with_shadows = Spread.of(each.shadowed.percentile_ms(99) for each in found)
        dropped = sum(each.dropped for each in found) / sum(each.answered for each in found)
        print(
            f"| {source.title} | {title} | {without.shown('.2f')} | {with_shadows.shown('.2f')} | {p99.shown('.2f')}"
            f" | {p50.shown('.2f')} | {dropped:.0%} |",
            flush=True,
        )
        met &= p99.median <= MOST
    return met


if __name__ == "__main__":
    main()
