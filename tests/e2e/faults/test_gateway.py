"""A gateway that is killed and started again under load, behind clients that ask again."""

import signal
import threading
from collections.abc import Callable
from itertools import count

import pytest

from tests import graphs
from tests.e2e.faults.client import Client
from tests.e2e.faults.whole import assert_whole
from tests.e2e.service import eventually
from tests.e2e.shared import Stack

pytestmark = pytest.mark.slow

X = [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]
TIMES = 4


def changes(client: Client, stopping: Callable[[], bool]) -> None:
    """Everything that is acknowledged, over and over."""
    for number in count():
        name = f"{client.name}-{number}"
        client.upload_model(name, graphs.linear_classifier(seed=number).SerializeToString())
        job_id = client.submit(name, "dynamic", options={"max_accuracy_drop": 1.0})
        if job_id is not None:
            client.wait_for(job_id)
            client.make_default(name, "dynamic")
        if stopping():
            return


def outcomes(client: Client, stopping: Callable[[], bool], address: str) -> None:
    for number in count():
        unit = f"user-{number}"
        client.infer("linear", X, unit_id=unit)
        client.report(address, unit, number % 2)
        if stopping():
            break
    # A killed gateway had not yet kept whom it saw in its last second, and outcomes count of users that were seen.
    for seen in range(number + 1):
        client.infer("linear", X, unit_id=f"user-{seen}")


@pytest.mark.parametrize("how", ["killed", "told to end"])
def test_of_what_a_restarted_gateway_acknowledged_nothing_is_lost_and_nothing_done_twice(
    stack: Stack, how: str
) -> None:
    service, done = stack.service, threading.Event()
    service.upload_model(graphs.linear_classifier().SerializeToString(), name="linear")
    made = service.finished(service.submit(model="linear", method="dynamic", options={"max_accuracy_drop": 1.0}))
    assert made["state"] == "succeeded", made
    clients = [Client([service.url], name) for name in ("ada", "ben", "cleo")]
    address = clients[2].start_experiment("linear", "original", "dynamic")
    assert address is not None
    ways = [(changes, ()), (changes, ()), (outcomes, (address,))]
    threads = [
        threading.Thread(target=way, args=(client, done.is_set, *more), daemon=True)
        for client, (way, more) in zip(clients, ways, strict=True)
    ]
    for thread in threads:
        thread.start()
    for number in range(1, TIMES + 1):
        # Not before each client was served by this process.
        reached = [client.answers.total() for client in clients]
        eventually(
            lambda reached=reached: all(
                client.answers.total() >= before + 5 for client, before in zip(clients, reached, strict=True)
            ),
            what=f"requests before restart {number}",
        )
        gateway = service.processes.pop("gateway")
        if how == "killed":
            gateway.kill_all()
        else:
            assert gateway.end() in {0, -signal.SIGTERM}
        service.start("gateway")
    done.set()
    for thread in threads:
        thread.join()
    # Of outcomes those count whose units are kept, which happens once a second.
    eventually(lambda: not list(clients[2].broken_promises()), what="the units' being kept")
    clients[2].promote(address, "dynamic")
    assert [client.faults for client in clients] == [[], [], []]
    assert_whole(service)
    assert [list(client.broken_promises()) for client in clients] == [[], [], []]
    assert min(len(client.jobs) for client in clients[:2]) > 0
    for client in clients:
        client.close()
