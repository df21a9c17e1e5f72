"""What Octet adds to a request: `python bench/request_path.py [--rounds 5] [--seconds 3] [--models FOLDER]`.

`wrk` sends binary tensors over connections that stay open (apt-get install wrk). One gateway process and a bare ASGI
echo on the same server software take turns on one core, `wrk` runs on another. Ratios are taken within rounds, and
shown as median [lowest, highest] over rounds.

- A perceptron of two layers computes for 0.01 ms: requests per second as a share of the echo's, p50 and p99.
- A real model: requests per second as a share of `session.run` in a loop on the gateway's core. It is the INT8 variant
  of the MobileNetV2 `cifar10_mobilenetv2.onnx` in `--models`, or of `examples/resnet20.onnx`, made by a job.

CPU is user and system time of the server process for each request: on a busy machine it tells more than the clock does.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from app.engines.cpu import this_cpu
from contest import wire, wrk
from contest.cases import SHARED, Case, cases, sources
from contest.floor import Floor
from contest.octet import Octet
from contest.ports import free_port
from contest.processes import Absent, Server
from contest.results import Spread
from contest.wrk import Load, Wrk

_ECHO_SHARE = 0.35
_P99_OVER_P50 = 2.5
_LOOP_SHARE = 0.75


@dataclass(frozen=True)
class Turn:
    """One run of wrk against one server. `cpu_us`: user and system time of the server for each request."""

    load: Load
    cpu_us: float


def turn(sender: Wrk, server: Server, port: int, connections: int, seconds: int) -> Turn:
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    load = sender.run(port, connections, seconds)
    after = process.cpu_times()
    used_s = after.user - before.user + after.system - before.system
    if load.errors or not load.requests:
        raise Absent(f"{load.errors} of {load.requests} requests failed")
    return Turn(load, used_s / load.requests * 1e6)


class Bench:
    def __init__(self, folder: Path, server_core: int, sender_core: int, models: Path) -> None:
        self._folder = folder
        self._cores = {server_core}
        self._sender_cores = {sender_core}
        self._models = models
        self._stack = ExitStack()
        self.goals: list[str] = []

    def __enter__(self) -> "Bench":
        self._floor = Floor(self._cores)
        self._stack.callback(self._floor.stop)
        home = self._folder / "home"
        self._small, self._real = self._made(home)
        self.octet = Octet(home, free_port(), self._cores, worker=False)
        self._stack.callback(self.octet.server.stop)
        self.octet.server.start()
        self._echo_port = free_port()
        self._echo = Server(
            [sys.executable, str(Path(__file__).parent / "contest" / "asgi_echo.py"), str(self._echo_port)],
            cores=self._cores,
            log=self._folder / "echo.log",
            probe=lambda: _answers(self._echo_port),
        )
        self._stack.callback(self._echo.stop)
        self._echo.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _made(self, home: Path) -> tuple[Case, Case]:
        """The perceptron and the real model, uploaded, and quantized by a worker that is gone afterwards."""
        octet = Octet(home, free_port(), os.sched_getaffinity(0))
        octet.server.start()
        found = []
        try:
            for source in sources(self._models, self._folder)[:2]:
                octet.upload(source)
                found += cases(source, octet.download(source, self._folder))[:1]
        finally:
            octet.server.stop()
        small, real = found
        return small, real

    def small(self, connections: int, rounds: int, seconds: int) -> None:
        """The perceptron beside the echo."""
        sender = self._sender(self._small)
        pairs = []
        for number in range(rounds):
            # Neither is always the first.
            for who in ("octet", "echo") if number % 2 else ("echo", "octet"):
                if who == "octet":
                    mine = turn(sender, self.octet.server, self.octet.port, connections, seconds)
                else:
                    echo = turn(sender, self._echo, self._echo_port, connections, seconds)
            pairs.append((mine, echo))
        octet, echoes = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        share = Spread.of(mine.load.per_second / echo.load.per_second for mine, echo in pairs)
        print(f"| {connections} | {_row(octet)} | {_row(echoes)} | {share.shown('.2f')} |", flush=True)
        self._judge(f"{_ECHO_SHARE} of the echo, {connections} connections", share.median, share.median >= _ECHO_SHARE)
        if connections == 1:
            tail = Spread.of(mine.load.p99_ms / mine.load.p50_ms for mine in octet)
            self._judge(f"p99 <= {_P99_OVER_P50} p50", tail.median, tail.median <= _P99_OVER_P50)

    def real(self, connections: int, rounds: int, seconds: int) -> None:
        """The real model beside the engine in a loop."""
        sender = self._sender(self._real)
        turns, loops = [], []
        for _ in range(rounds):
            loops.append(self._floor.turn(self._real, seconds).per_second)
            turns.append(turn(sender, self.octet.server, self.octet.port, connections, seconds))
        share = Spread.of(mine.load.per_second / loop for mine, loop in zip(turns, loops, strict=True))
        loop_rate = Spread.of(loops).shown(".0f")
        print(f"| {connections} | {_row(turns)} | {loop_rate} | {share.shown('.2f')} |", flush=True)
        self._judge(
            f"{_LOOP_SHARE} of session.run, {connections} connections", share.median, share.median >= _LOOP_SHARE
        )

    @property
    def real_title(self) -> str:
        return self._real.title

    def _sender(self, case: Case) -> Wrk:
        path = f"/v2/models/{case.model}/versions/{case.variant}/infer"
        sender = Wrk(self._folder, case.model, wire.oip_binary(case, path, 0).request, self._sender_cores)
        # The first requests load the model, and show how long it takes.
        sender.run(self.octet.port, 1, 1)
        return sender

    def _judge(self, goal: str, value: float, is_met: bool) -> None:
        self.goals.append(f"- {'met' if is_met else 'MISSED'}: {goal}: {value:.2f}")


def _row(turns: Sequence[Turn]) -> str:
    rate = Spread.of(each.load.per_second for each in turns)
    p50, p99 = (Spread.of(values) for values in zip(*((t.load.p50_ms, t.load.p99_ms) for t in turns), strict=True))
    cpu = Spread.of(each.cpu_us for each in turns)
    return f"{rate.shown('.0f')} | {p50.median:.3f} / {p99.median:.3f} | {cpu.median:.0f}"


def _answers(port: int) -> bool:
    try:
        return httpx.post(f"http://127.0.0.1:{port}/", content=b"x").content == b"x"
    except httpx.TransportError:
        return False


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=3, help="of one run of wrk")
    arguments.add_argument("--connections", default="1,8,32")
    arguments.add_argument("--models", type=Path, default=SHARED, help="folder of larger models")
    arguments.add_argument("--only", choices=["small", "real"])
    given = arguments.parse_args()
    try:
        wrk.check_installed()
    except Absent as error:
        sys.exit(str(error))
    cores = sorted(os.sched_getaffinity(0))
    print(f"{this_cpu().model}; {time.strftime('%Y-%m-%d')}; load {os.getloadavg()[0]:.1f} at the start")
    if len(cores) < 2:
        print("One core: servers and wrk share it.")
    print(f"{given.rounds} rounds of {given.seconds} s; median [lowest, highest] over rounds\n")
    connections = [int(each) for each in given.connections.split(",")]
    with (
        tempfile.TemporaryDirectory(prefix="octet-bench-", ignore_cleanup_errors=True) as name,
        Bench(Path(name), cores[0], cores[-1], given.models) as bench,
    ):
        if given.only != "real":
            print("**Perceptron of two layers**\n")
            print(
                "| connections | Octet: req/s | p50 / p99 ms | CPU µs | echo: req/s | p50 / p99 ms | CPU µs | share |"
            )
            print("|---|---|---|---|---|---|---|---|")
            for each in connections:
                bench.small(each, given.rounds, given.seconds)
        if given.only != "small":
            print(f"\n**{bench.real_title}**\n")
            print("| connections | Octet: req/s | p50 / p99 ms | CPU µs | session.run in a loop: req/s | share |")
            print("|---|---|---|---|---|---|")
            for each in connections:
                bench.real(each, given.rounds, given.seconds)
        print("\nGoals\n")
        print("\n".join(bench.goals))


if __name__ == "__main__":
    main()
