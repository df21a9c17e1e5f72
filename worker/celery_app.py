"""The Celery application that `celery -A worker.celery_app worker` runs."""

from celery import Celery, Task
from celery.worker.request import Request
from kombu import Exchange, Queue

from app.settings import Settings

settings = Settings()
settings.make_folders()

app = Celery("octet", include=["worker.tasks"])
app.conf.update(settings.celery)

_name = app.conf.task_default_queue
app.conf.task_queues = [Queue(_name, Exchange(_name), routing_key=_name, no_ack=True)]


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
