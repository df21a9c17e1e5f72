"""Workers that say they are alive."""

import os
import socket
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.registry.tables import Worker, now

_LONGEST_PLACE = 240


def name_here(home: Path) -> str:
    """What this process is called as a worker: by its host, the folder of its files, and its number."""
    return f"{_place(home)}:{os.getpid()}"


def is_here(name: str, home: Path) -> bool:
    """Whether the worker `name` runs on this host and keeps its files under `home`."""
    return name.rpartition(":")[0] == _place(home)


def _place(home: Path) -> str:
    return f"{socket.gethostname()}:{home.absolute()}"[:_LONGEST_PLACE]


def beat(session: Session, name: str, *, concurrency: int, running: int, forget_after_seconds: float) -> None:
    """Note that worker `name` lives, and forget those not heard of for `forget_after_seconds`."""
    session.execute(delete(Worker).where(Worker.seen_at < now() - timedelta(seconds=forget_after_seconds)))
    worker = session.get(Worker, name)
    if worker is None:
        worker = Worker(name=name, concurrency=concurrency, running=running)
        session.add(worker)
    worker.concurrency, worker.running, worker.seen_at = concurrency, running, now()


def leave(session: Session, name: str) -> None:
    """Note that worker `name` has ended."""
    session.execute(delete(Worker).where(Worker.name == name))


def alive(session: Session, *, within_seconds: float) -> list[Worker]:
    """Workers heard of in the last `within_seconds`."""
    query = select(Worker).where(Worker.seen_at >= now() - timedelta(seconds=within_seconds)).order_by(Worker.name)
    return list(session.scalars(query))
