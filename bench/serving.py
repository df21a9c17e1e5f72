"""What serving costs: Octet against the bare engine, and against what a user would otherwise run.

`python bench/serving.py [--rounds 4] [--seconds 1.5] [--contenders octet,litserve,…] [--concurrency 1,8,32]`

All serve the very file that Octet made, with onnxruntime and one thread a request, on cores of their own; the requests
come from another core, over connections that stay open, with one request in flight on each. The floor is `session.run`
in a bare loop on the servers' cores. In each round all have their turn at each model and concurrency, while the others
are halted; ratios are taken within rounds. Every answer's status is checked, and its numbers for one in fifty.

Peers are installed on demand in environments of their own, under `--cache`. One that cannot be installed or started is
left out, and the reason given.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from app.engines.cpu import this_cpu
from contest import cases as contest_cases
from contest import targets, wire
from contest.cases import Case, Source
from contest.contenders import OCTET, PEERS, Peer, Row
from contest.floor import Floor
from contest.load import Turn, drive
from contest.octet import Octet
from contest.ports import free_port
from contest.processes import Absent, Server
from contest.results import Measurement, Results, Spread


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float
    concurrencies: tuple[int, ...]
    contenders: tuple[str, ...]
    server_cores: frozenset[int]
    cache: Path
    models: Path
    scratch: Path


@dataclass(frozen=True)
class Contestant:
    """A running server, and the forms in which it is asked."""

    server: Server
    port: int
    rows: Sequence[Row]


class Contest:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._measured: list[Measurement] = []
        self.absent: dict[str, str] = {}

    def run(self) -> Results:
        """All cases of all models. Tables are printed as soon as they are complete."""
        plan = self._plan
        with ExitStack() as stack:
            floor = Floor(plan.server_cores)
            stack.callback(floor.stop)
            octet = Octet(plan.scratch / "home", free_port(), plan.server_cores)
            stack.callback(octet.server.stop)
            octet.server.start()
            sources = contest_cases.sources(plan.models, plan.scratch)
            for source in sources:
                said(f"making {source.title}")
                octet.upload(source)
            for source in sources:
                folder = plan.scratch / source.name
                folder.mkdir()
                cases = contest_cases.cases(source, octet.download(source, folder))
                self._compete(source, cases, Contestant(octet.server, octet.port, OCTET), folder, floor)
                for case in cases:
                    print(f"\n**{case.title}** (the floor: {self._floor(case)})\n")
                    print("\n".join(Results(self._measured).table(case.title, targets.OCTET)), flush=True)
        return Results(self._measured)

    def _compete(self, source: Source, cases: Sequence[Case], octet: Contestant, folder: Path, floor: Floor) -> None:
        """Peers serve this model alone, so that what they do for idle models costs them nothing."""
        plan = self._plan
        with ExitStack() as stack:
            octet.server.pause()
            there = [octet] if "octet" in plan.contenders else []
            for name in plan.contenders:
                if name in PEERS and name not in self.absent:
                    there += self._started(PEERS[name], cases[0], folder, stack)
            if not there:
                raise Absent("no contender could be started")
            for round in range(plan.rounds):
                said(f"{source.title}: round {round + 1} of {plan.rounds}")
                # Nobody always comes after the same neighbour.
                order = there[round % len(there) :] + there[: round % len(there)]
                for case in cases:
                    for concurrency in plan.concurrencies:
                        self._turns(case, concurrency, round, order, floor)
        octet.server.resume()

    def _started(self, peer: Peer, case: Case, folder: Path, stack: ExitStack) -> list[Contestant]:
        """The peer, halted until its turn and ended with `stack`; nothing where it cannot take part."""
        port = free_port()
        try:
            peer.install(self._plan.cache)
            log = self._plan.scratch / f"{peer.name}.log"
            server = peer.server(self._plan.cache, folder, port, self._plan.server_cores, case, log)
            stack.callback(server.stop)
            server.start()
        except Absent as error:
            self.absent[peer.name] = f"{error}" + (f" ({peer.hint})" if peer.hint else "")
            said(f"{peer.name} is left out: {self.absent[peer.name]}")
            return []
        server.pause()
        return [Contestant(server, port, (peer.row,))]

    def _turns(self, case: Case, concurrency: int, round: int, order: Sequence[Contestant], floor: Floor) -> None:
        bare = floor.turn(case, self._plan.seconds)
        for contestant in order:
            failure: str | None = None
            try:
                contestant.server.resume()
            except Absent as error:
                failure = str(error)
            for row in contestant.rows:
                if row.takes(case):
                    turn = Turn.failed(failure) if failure else self._turn(contestant.port, row, case, concurrency)
                    measured = Measurement.of(case.title, case.model, row.title, concurrency, round, turn, bare)
                    self._measured.append(measured)
            contestant.server.pause()

    def _turn(self, port: int, row: Row, case: Case, concurrency: int) -> Turn:
        return drive(port, row.exchanges(case), concurrency, self._plan.seconds)

    def _floor(self, case: Case) -> str:
        here = [each for each in self._measured if each.case == case.title]
        p50 = Spread.of(each.floor_p50_ms for each in here)
        rate = Spread.of(each.floor_per_second for each in here)
        return f"p50 {p50.shown('.3f')} ms, {rate.shown('.0f')} req/s"


def senders_own(cores: Collection[int], concurrencies: Sequence[int], scratch: Path) -> str:
    """What the sender and the loopback take where the server does nothing."""
    port = free_port()
    program = Path(__file__).parent / "contest" / "echo.py"
    exchange = wire.Exchange(b"POST / HTTP/1.1\r\nContent-Length: 256\r\n\r\n" + bytes(256), lambda head, body: None)
    server = Server(
        [sys.executable, str(program), str(port), "256"],
        cores=cores,
        log=scratch / "echo.log",
        probe=lambda: not drive(port, [exchange], 1, seconds=0, warmup=0).errors,
    )
    server.start()
    try:
        turns = {concurrency: drive(port, [exchange], concurrency, 1) for concurrency in concurrencies}
    finally:
        server.stop()
    return "; ".join(
        f"concurrency {concurrency}: p50 {turn.percentile_ms(50):.3f} ms, {turn.per_second:.0f} req/s"
        for concurrency, turn in turns.items()
    )


def said(what: str) -> None:
    """Progress, apart from the tables."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--seconds", type=float, default=1.5, help="of one turn")
    arguments.add_argument("--concurrency", default="1,8,32")
    arguments.add_argument("--contenders", default=",".join(["octet", *PEERS]))
    arguments.add_argument("--server-cores", type=int, default=1, help="cores of each server, and threads of the floor")
    arguments.add_argument("--models", type=Path, default=contest_cases.SHARED, help="folder of larger models")
    arguments.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "octet-bench")
    arguments.add_argument("--json", type=Path, help="file for every turn's figures")
    given = arguments.parse_args()
    unknown = set(given.contenders.split(",")) - {"octet", *PEERS}
    if unknown:
        arguments.error(f"no contender is named {', '.join(sorted(unknown))}; there are octet, {', '.join(PEERS)}")

    # Whoever ends this program ends the servers too, which are halted most of the time.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    cores = sorted(os.sched_getaffinity(0))
    server_cores = frozenset(cores[: given.server_cores])
    rest = set(cores) - server_cores or {cores[-1]}
    os.sched_setaffinity(0, rest)
    cpu = this_cpu()
    print(
        f"{cpu.model}, {len(cores)} cores; each server on {len(server_cores)}, the requests from {len(rest)};"
        f" {given.rounds} rounds of {given.seconds:g} s; medians over rounds [lowest, highest]"
    )
    if rest & server_cores:
        print("Servers and sender share a core: what is said of latency is of both.")
    with tempfile.TemporaryDirectory(prefix="octet-bench-", ignore_cleanup_errors=True) as name:
        plan = Plan(
            rounds=given.rounds,
            seconds=given.seconds,
            concurrencies=tuple(int(each) for each in given.concurrency.split(",")),
            contenders=tuple(given.contenders.split(",")),
            server_cores=server_cores,
            cache=given.cache,
            models=given.models,
            scratch=Path(name),
        )
        own = senders_own(server_cores, plan.concurrencies, plan.scratch)
        print(f"The sender with a server that does nothing: {own}", flush=True)
        contest = Contest(plan)
        try:
            results = contest.run()
        except Absent as error:
            sys.exit(str(error))
    conclude(results, contest.absent)
    if given.json is not None:
        figures = {"cpu": asdict(cpu), "turns": [asdict(each) for each in results.measurements]}
        given.json.write_text(json.dumps(figures, indent=1))


def conclude(results: Results, absent: dict[str, str]) -> None:
    print("\nTargets\n")
    python = [peer.row.title for peer in PEERS.values() if peer.python]
    for target in targets.targets(results, python):
        print(target)
    for line in [*targets.errors(results), *targets.disturbances(results)]:
        print(line)
    for name, reason in absent.items():
        print(f"- {name} was left out: {reason}")


if __name__ == "__main__":
    main()
