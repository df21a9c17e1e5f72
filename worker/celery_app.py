"""The Celery application that `celery -A worker.celery_app worker` runs; it is configured when it is first used."""

from typing import Any

from celery import Celery, Task
from celery.worker.request import Request
from kombu import Exchange, Queue

from app.settings import Settings


def _configuration() -> dict[str, Any]:
    configuration = Settings().celery
    name = configuration["task_default_queue"]
    return configuration | {"task_queues": [Queue(name, Exchange(name), routing_key=name, no_ack=True)]}


app = Celery("octet", include=["worker.tasks"])
app.add_defaults(_configuration)


class _Unacknowledged(Request):  # type: ignore[misc]
    def acknowledge(self) -> None:
        self.acknowledged = True


class WakeUp(Task):  # type: ignore[misc]
    """A task whose message is done with when it is taken: the registry knows what there is to do.

    An acknowledgement that fails, as while the broker is restarted, would end the worker, or count as a message in hand
    for ever, so that it took no other. (Celery 5.7, kombu 5.7)
    """

    abstract = True
    Request = _Unacknowledged
