"""`make soak`: half an hour of mixed work by eight clients, a random fault each minute; then everything is counted.

Two gateways and two workers stand on one PostgreSQL and one Redis. Faults strike the database, the broker, one gateway
and one worker; the other two, which no fault strikes directly, have to endure those of the rest, and their memory and
open files are measured from beginning to end. At the end nothing that was acknowledged is lost or done twice, no answer
was a 5xx but for 503, and memory and files are flat, or the command fails.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import psutil

from tests import graphs
from tests.e2e.conftest import npz
from tests.e2e.faults.client import Client, Unanswered
from tests.e2e.faults.whole import assert_whole
from tests.e2e.service import Process, Service, eventually
from tests.servers import PostgreSQL, Redis, free_port

CLIENTS = 8
X = [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]
LENIENT = {"max_accuracy_drop": 1.0}
#: Models that a client keeps before it deletes its oldest, so that a long run does not only grow.
KEPT = 6
#: The memory of a process may have grown by so much from the second fifth of the run to the last: a part, and bytes.
GROWTH, SLACK_BYTES = 1.10, 16 * 1024**2
MORE_FILES = 8
AWAY_SECONDS = 30


@dataclass(frozen=True)
class Sample:
    resident_bytes: int
    files: int


@dataclass
class Watched:
    """What one process took, from beginning to end."""

    name: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def look(self) -> None:
        process = psutil.Process(self.pid)
        self.samples.append(Sample(process.memory_info().rss, process.num_fds()))

    def part(self, begin: float, end: float) -> list[Sample]:
        return self.samples[int(len(self.samples) * begin) : max(int(len(self.samples) * end), 1)]

    def told(self) -> tuple[str, list[str]]:
        """A line of the table, and what is wrong."""
        early, late = self.part(0.2, 0.4), self.part(0.8, 1.0)
        memory = [statistics.median(each.resident_bytes for each in part) for part in (early, late)]
        files = [statistics.median(each.files for each in part) for part in (early, late)]
        faults = []
        if memory[1] > memory[0] * GROWTH + SLACK_BYTES:
            faults.append(f"{self.name}: memory grew from {memory[0] / 2**20:.0f} to {memory[1] / 2**20:.0f} MiB")
        if files[1] > files[0] + MORE_FILES:
            faults.append(f"{self.name}: open files grew from {files[0]:.0f} to {files[1]:.0f}")
        shown = f"{memory[0] / 2**20:.0f} → {memory[1] / 2**20:.0f} | {files[0]:.0f} → {files[1]:.0f}"
        return f"| {self.name} | {shown} |", faults


class House:
    """Everything that runs: `service` has the gateway and the worker that are struck, `steady` the others."""

    def __init__(self, folder: Path) -> None:
        self.database, self.broker = PostgreSQL(), Redis(folder)
        self.database.start()
        self.broker.start()
        chosen = {
            "OCTET_DATABASE_URL": self.database.database(),
            "OCTET_BROKER_URL": self.broker.url,
            # So small that models come and go.
            "OCTET_MODEL_MEMORY": str(64 * 1024**2),
            "OCTET_LOG_LEVEL": "warning",
        }
        self.service = Service(folder / "home", chosen, apart=True)
        self.service.migrate()
        self.service.start()
        self.port = free_port()
        self.steady = {
            "gateway": self._start("gateway", "--port", str(self.port)),
            "worker": self._start("worker"),
        }
        self.steady_url = f"http://127.0.0.1:{self.port}"
        eventually(self._is_ready, what="the second gateway")

    def _start(self, name: str, *arguments: str) -> Process:
        log = self.service.home.parent / f"steady-{name}.log"
        return Process([name, *arguments], self.service.environment, log)

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.steady_url}/v2/health/ready").status_code == 200
        return False

    def watched(self) -> list[Watched]:
        worker = self.steady["worker"].find("worker.celery_app")
        assert worker is not None
        return [Watched("gateway", self.steady["gateway"].popen.pid), Watched("worker", worker.pid)]

    def close(self) -> None:
        for process in self.steady.values():
            process.kill_all()
        self.service.stop()
        self.broker.kill()
        self.database.close()


# Faults


def kill_gateway(house: House) -> None:
    _kill(house, "gateway")


def end_gateway(house: House) -> None:
    _end(house, "gateway")


def kill_worker(house: House) -> None:
    _kill(house, "worker")


def end_worker(house: House) -> None:
    _end(house, "worker")


def _kill(house: House, name: str) -> None:
    house.service.processes.pop(name).kill_all()
    time.sleep(2)
    house.service.start(name)


def _end(house: House, name: str) -> None:
    house.service.processes.pop(name).end()
    house.service.start(name)


def freeze_worker(house: House) -> None:
    """Longer than its lease."""
    family = house.service.processes["worker"].family()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    time.sleep(10)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def restart_broker(house: House) -> None:
    house.broker.kill()
    house.broker.start()


def broker_away(house: House) -> None:
    house.broker.stop()
    time.sleep(AWAY_SECONDS)
    house.broker.start()


def flush_broker(house: House) -> None:
    import redis

    redis.Redis.from_url(house.broker.url).flushall()


def restart_database(house: House) -> None:
    house.database.stop()
    house.database.start()


def kill_database(house: House) -> None:
    house.database.kill()
    time.sleep(3)
    house.database.start()


FAULTS: tuple[Callable[[House], None], ...] = (
    kill_gateway,
    end_gateway,
    kill_worker,
    end_worker,
    freeze_worker,
    restart_broker,
    broker_away,
    flush_broker,
    restart_database,
    kill_database,
)

# Clients


def quantize(client: Client, stopping: Callable[[], bool], samples: bytes) -> None:
    """Uploads models of its own, has variants made, looks at them, serves them, and deletes the oldest."""
    names: list[str] = []
    for number in count():
        if stopping():
            return
        name = f"{client.name}-{number}"
        names.append(name)
        client.upload_model(name, graphs.convolution(seed=number).SerializeToString())
        if number % 5 == 0:
            client.upload_dataset(f"{name}-samples", samples)
        dataset = f"{client.name}-{number - number % 5}-samples"
        wanted = [("int8", {"dataset": dataset}), ("fp16", {}), ("dynamic", {})][number % 3]
        job_id = client.submit(name, wanted[0], options=LENIENT, **wanted[1])
        if job_id is not None and client.wait_for(job_id)["state"] == "succeeded":
            client.make_default(name, wanted[0])
            client.ask("GET", f"/api/v1/models/{name}/variants/{wanted[0]}/report", headers={"Accept": "text/html"})
            image = {"name": "image", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": [0.5] * 192}
            client.infer(name, [image])
        if len(names) > KEPT:
            client.forget_model(names.pop(0))


def infer(client: Client, stopping: Callable[[], bool], samples: bytes) -> None:
    """Asks a model of its own, and compares every answer with the first."""
    client.upload_model(client.name, graphs.linear_classifier(seed=len(client.name)).SerializeToString())
    first: list[float] | None = None
    while not stopping():
        answer = client.infer(client.name, X)
        if answer.status_code == 200:
            said = answer.json()["outputs"][0]["data"]
            first = first or said
            if said != first:
                client.faults.append(f"{client.name} answered {said}, and before {first}")
        time.sleep(0.02)


def experiment(client: Client, stopping: Callable[[], bool], samples: bytes) -> None:
    """Runs one experiment after the other: units are asked for, outcomes reported, and an arm is promoted."""
    names: list[str] = []
    for number in count():
        if stopping():
            return
        name = f"{client.name}-{number}"
        names.append(name)
        client.upload_model(name, graphs.linear_classifier(seed=number).SerializeToString())
        job_id = client.submit(name, "dynamic", options=LENIENT)
        if job_id is None or client.wait_for(job_id)["state"] != "succeeded":
            continue
        address = client.start_experiment(name, "original", "dynamic")
        if address is None:
            continue
        units = [f"user-{unit}" for unit in range(60)]
        for at, unit in enumerate(units):
            client.infer(name, X, unit_id=unit)
            client.report(address, unit, at % 2)
        # Whom a killed gateway saw in its last second is not kept, and outcomes are counted of those who were seen.
        for unit in units:
            client.infer(name, X, unit_id=unit)
        time.sleep(3)
        client.promote(address, "dynamic")
        client.defaults[name] = client.ask("GET", f"/api/v1/models/{name}").json()["default_version"]
        if len(names) > KEPT:
            client.forget_model(names.pop(0))


def look(client: Client, stopping: Callable[[], bool], samples: bytes) -> None:
    """Reads what people and machines read, and sends what is wrong."""
    pages = ("/", "/jobs", "/datasets", "/system", "/docs", "/metrics", "/api/v1/models", "/api/v1/jobs", "/v2")
    for number in count():
        if stopping():
            return
        client.ask("GET", pages[number % len(pages)], headers={"Accept": "text/html"})
        wrong = client.ask("POST", "/api/v1/models", files={"file": ("m.onnx", b"nonsense")}, data={"name": "wrong"})
        refused = client.ask("POST", "/v2/models/nothing/infer", content=b"{")
        for answer, status in ((wrong, 422), (refused, 404)):
            if answer.status_code not in (status, 400):
                client.faults.append(f"{answer.request.url.path}: {answer.status_code}, not {status}")
        time.sleep(0.3)


WORK = (quantize, quantize, quantize, infer, infer, experiment, experiment, look)
assert len(WORK) == CLIENTS


class Run:
    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.done = threading.Event()
        self.random = random.Random(seed)
        self.struck: Counter[str] = Counter()
        self.watched = house.watched()
        urls = (house.service.url, house.steady_url)
        # A client turns to the other gateway when one does not answer, as behind a load balancer.
        self.clients = [
            Client([urls[number % 2], urls[1 - number % 2]], f"{work.__name__}-{number}", stop=self.done.is_set)
            for number, work in enumerate(WORK)
        ]

    def go(self, seconds: float) -> None:
        self._look()
        samples = npz(**graphs.labelled_samples(samples=64, shape=(3, 8, 8), name="image"))
        threads = [
            threading.Thread(target=self._work, args=(work, client, samples), daemon=True)
            for work, client in zip(WORK, self.clients, strict=True)
        ]
        threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        left: list[Callable[[House], None]] = []
        while time.monotonic() + 60 < end:
            minute = time.monotonic() + 60
            if not left:
                left = self.random.sample(FAULTS, len(FAULTS))
            fault = left.pop()
            time.sleep(self.random.uniform(0, 20))
            taken = ", ".join(f"{each.name} {each.samples[-1].resident_bytes / 2**20:.0f} MiB" for each in self.watched)
            print(f"{time.strftime('%H:%M:%S')} {fault.__name__} ({taken})", flush=True)
            fault(self.house)
            self.struck[fault.__name__] += 1
            time.sleep(max(0.0, minute - time.monotonic()))
        time.sleep(max(0.0, end - time.monotonic()))
        self.done.set()
        for thread in threads:
            thread.join(timeout=180)

    def _work(self, work: Callable[..., None], client: Client, samples: bytes) -> None:
        try:
            work(client, self.done.is_set, samples)
        except (Unanswered, ValueError, KeyError) as error:
            client.faults.append(f"{client.name} ended: {error!r}")

    def _watch(self) -> None:
        while not self.done.wait(2):
            self._look()

    def _look(self) -> None:
        for each in self.watched:
            each.look()

    def verdict(self) -> list[str]:
        """What is wrong, once all that was asked for is done."""
        faults = [fault for client in self.clients for fault in client.faults]
        try:
            assert_whole(self.house.service, seconds=300)
        except AssertionError as error:
            faults.append(str(error)[:4000])
        for client in self.clients:
            faults += client.broken_promises()
        answers: Counter[int] = sum((client.answers for client in self.clients), Counter())
        done = [sum(len(getattr(client, what)) for client in self.clients) for what in ("models", "jobs", "promoted")]
        print(f"\nfaults: {dict(self.struck)}\nanswers by status: {dict(sorted(answers.items()))}")
        print(f"kept to the end: {done[0]} models, {done[1]} jobs, {done[2]} promotions,", end=" ")
        print(
            f"{sum(len(values) for client in self.clients for values in client.outcomes.values())} outcomes;", end=" "
        )
        print(f"and {sum(client.held for client in self.clients)} outcomes of models that were deleted before")
        print("\n| the steady | resident MiB | open files |\n|---|---|---|")
        for each in self.watched:
            line, wrong = each.told()
            print(line)
            faults += wrong
        return faults


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    given = parser.parse_args(arguments)
    print(f"{given.minutes:g} minutes, {CLIENTS} clients, seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="octet-soak-") as folder:
        house = House(Path(folder))
        try:
            run = Run(house, given.seed)
            run.go(given.minutes * 60)
            faults = run.verdict()
        finally:
            house.close()
    print("\nnothing was lost, and nothing done twice" if not faults else "\n" + "\n".join(faults[:50]))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
