"""What it costs to serve each variant from a process of its own (`OCTET_ISOLATE`).

`python bench/isolation.py [--rounds 6] [--seconds 2]`

Two gateways serve the same files, one with and one without; in each round both have their turn at each model, with one
connection and with eight, while the other is halted, and who goes first alternates. So what disturbs the machine
disturbs both, and differences are taken within rounds. Besides, the bare engine is called in this process and through a
runner, call by call in turn. Memory is what all processes of a gateway grew by with the model loaded, pages that are
shared counted in part. Every answer is checked.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from app import engines
from app.isolation.engine import IsolatedEngine, Limits, proportional_bytes
from contest import cases as contest_cases
from contest.cases import Case, Source
from contest.contenders import OCTET
from contest.load import Turn, drive
from contest.octet import Octet
from contest.ports import free_port

CONCURRENCIES = (1, 8)
CALLS, CALLS_SECONDS = 2000, 3
LOADS = 15
MIB = 1024**2


def settings(isolate: bool) -> dict[str, str]:
    return {"OCTET_ISOLATE": "1" if isolate else "0"}


class Gateways:
    """The same files served from within (False) and from processes of their own (True)."""

    def __init__(self, home: Path, cores: frozenset[int], stack: ExitStack) -> None:
        self.both = {
            isolate: Octet(home, free_port(), cores, worker=False, environment=settings(isolate))
            for isolate in (False, True)
        }
        for octet in self.both.values():
            stack.callback(octet.server.stop)
            octet.server.start()
            octet.server.pause()

    def turn(self, isolate: bool, case: Case, concurrency: int, seconds: float) -> Turn:
        octet = self.both[isolate]
        octet.server.resume()
        try:
            turn = drive(octet.port, OCTET[0].exchanges(case), concurrency, seconds)
        finally:
            octet.server.pause()
        if turn.errors:
            sys.exit(f"{case.title}: {turn.errors[0]}")
        return turn

    def loads(self, isolate: bool, source: Source) -> tuple[list[float], float]:
        """Milliseconds of each load but the first, which makes the mapped form; and the MiB that it grew by."""
        octet = self.both[isolate]
        octet.server.resume()
        try:
            name = f"/v2/repository/models/{source.name}@{source.variant}"
            times, before, grown = [], 0, 0.0
            for number in range(LOADS):
                octet.http.post(f"{name}/unload").raise_for_status()
                before = _family_bytes(octet)
                begun = time.perf_counter()
                octet.http.post(f"{name}/load").raise_for_status()
                if number:
                    times.append((time.perf_counter() - begun) * 1e3)
                grown = (_family_bytes(octet) - before) / MIB
            return times, grown
        finally:
            octet.server.pause()


def _family_bytes(octet: Octet) -> int:
    return sum(proportional_bytes(process.pid) for process in octet.server.family())


def bare(engine: IsolatedEngine, case: Case) -> dict[bool, list[float]]:
    """Microseconds of single calls of the engine, in this process and through a runner."""
    models: Mapping[bool, Any] = {
        False: engines.get("onnxruntime").load(case.artifact, intra_op_threads=1),
        True: engine.load(case.artifact, intra_op_threads=1),
    }
    took: dict[bool, list[float]] = {False: [], True: []}
    end = time.monotonic() + CALLS_SECONDS
    for number in range(CALLS):
        if time.monotonic() > end:
            break
        sample = case.samples[number % len(case.samples)]
        for isolate in (False, True) if number % 2 else (True, False):
            begun = time.perf_counter()
            answer = models[isolate].run(sample)
            took[isolate].append((time.perf_counter() - begun) * 1e6)
            if not number % 50:
                np.testing.assert_array_equal(answer[0], case.expected[number % len(case.samples)])
    models[True].close()
    return took


def rows(
    case: Case, gateways: Gateways, engine: IsolatedEngine, rounds: int, seconds: float, load: Callable[[bool], Any]
) -> list[str]:
    turns: dict[tuple[bool, int], list[Turn]] = {}
    for number in range(rounds):
        for concurrency in CONCURRENCIES:
            for isolate in (False, True) if number % 2 else (True, False):
                turn = gateways.turn(isolate, case, concurrency, seconds)
                turns.setdefault((isolate, concurrency), []).append(turn)
    calls = bare(engine, case)
    loaded = {isolate: load(isolate) for isolate in (False, True)}

    def of(isolate: bool, concurrency: int, what: Callable[[Turn], float]) -> list[float]:
        return [what(turn) for turn in turns[isolate, concurrency]]

    return [
        _row("engine alone, p50 (µs)", *(([float(np.percentile(calls[i], 50))]) for i in (False, True)), "+"),
        _row("engine alone, p99 (µs)", *(([float(np.percentile(calls[i], 99))]) for i in (False, True)), "+"),
        _row("HTTP, 1 connection, p50 (ms)", *(of(i, 1, lambda t: t.percentile_ms(50)) for i in (False, True)), "+"),
        _row("HTTP, 1 connection, p99 (ms)", *(of(i, 1, lambda t: t.percentile_ms(99)) for i in (False, True)), "+"),
        _row("HTTP, 8 connections, requests/s", *(of(i, 8, lambda t: t.per_second) for i in (False, True)), "x"),
        _row("load (ms)", *(loaded[i][0] for i in (False, True)), "+"),
        _row("memory (MiB)", *([loaded[i][1]] for i in (False, True)), "+"),
    ]


def _row(what: str, within: Sequence[float], apart: Sequence[float], kind: str) -> str:
    pairs = list(zip(within, apart, strict=True))
    if kind == "x":
        difference = f"{np.median([its / mine for mine, its in pairs]):.2f}x"
    else:
        difference = f"{np.median([its - mine for mine, its in pairs]):+.3g}"
    return f"| {what} | {np.median(within):.4g} | {np.median(apart):.4g} | {difference} |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--seconds", type=float, default=2, help="of one turn")
    arguments.add_argument(
        "--realtime", action="store_true", help="go before all else on the machine, where others use it too"
    )
    arguments.add_argument("--models", type=Path, default=contest_cases.SHARED)
    given = arguments.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    servers = frozenset(cores[:-1] or cores)
    print(f"{len(servers)} core(s) for the gateways, {len(cores) - len(servers) or 'no'} apart for the sender")
    with tempfile.TemporaryDirectory(prefix="octet-bench-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        scratch = Path(name)
        maker = Octet(scratch / "home", free_port(), cores)
        maker.server.start()
        sources = contest_cases.sources(given.models, scratch)
        found: list[tuple[Source, Case]] = []
        try:
            for source in sources:
                maker.upload(source)
                folder = scratch / source.name
                folder.mkdir()
                found += [(source, case) for case in contest_cases.cases(source, maker.download(source, folder))]
        finally:
            maker.server.stop()
        if given.realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        gateways = Gateways(scratch / "home", servers, stack)
        engine = IsolatedEngine("onnxruntime", Limits(1024 * MIB, 60))
        stack.callback(engine.close)
        os.sched_setaffinity(0, {cores[-1]})
        for source, case in found:
            print(f"\n**{case.title}**\n\n| | within | apart | |\n|---|---|---|---|")
            load = lambda isolate, source=source: gateways.loads(isolate, source)  # noqa: E731
            print("\n".join(rows(case, gateways, engine, given.rounds, given.seconds, load)), flush=True)


if __name__ == "__main__":
    main()
