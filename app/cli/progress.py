"""Progress bars: bytes on their way, and jobs as the server tells of them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from app.cli.connection import Connection, Counter
from app.errors import OctetError


@contextmanager
def bytes_bar(console: Console, label: str, total: int | None) -> Iterator[Counter]:
    """A bar that the yielded function moves to the number of bytes done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


def follow(console: Console, connection: Connection, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Show a live bar for each of `jobs` until all have ended; returns them as they ended."""
    columns = (
        TextColumn("{task.fields[variant]:>10}", style="bold"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
        # Last, since it is the one that may be long, and as it is: what the server tells is no markup.
        TextColumn("{task.fields[detail]}", markup=False),
    )
    failures: list[OctetError] = []
    with Progress(*columns, console=console) as progress:
        threads = [
            threading.Thread(target=_follow_one, args=(progress, connection, job, failures), daemon=True)
            for job in jobs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return [connection.json("GET", f"/api/v1/jobs/{job['id']}") for job in jobs]


def _follow_one(progress: Progress, connection: Connection, job: dict[str, Any], failures: list[OctetError]) -> None:
    task = progress.add_task("", total=1.0, variant=job["variant"], stage=job["stage"], detail="", start=False)
    try:
        for event in connection.events(job["id"]):
            if event["state"] != "queued":
                progress.start_task(task)
            progress.update(task, completed=event["progress"], stage=event["stage"], detail=_text(event))
    except OctetError as error:
        failures.append(error)
    progress.stop_task(task)


def _text(event: dict[str, Any]) -> str:
    """What the job tells of itself besides its stage, in one line; nothing where it tells nothing."""
    text = (event.get("detail") or {}).get("text", "")
    return " ".join(str(text).split())
