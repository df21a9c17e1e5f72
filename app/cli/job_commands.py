"""`octet jobs`: what is waiting, what is being made, and what was."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from app.cli import tables
from app.cli.client import LOCAL, Url
from app.cli.connection import connect

console = Console()

_SHOW = "show"
_SHOWN = ("id", "model", "revision", "variant", "version", "method", "dataset", "state", "stage", "attempts")
_MOMENTS = ("created_at", "started_at", "finished_at")


def jobs(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[show] [JOB_ID]", help="One job; after `show`, all that is known of it."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the job.")] = False,
    url: Url = LOCAL,
) -> None:
    """List jobs, the newest first, or show or cancel one.

    `octet jobs show JOB_ID` also shows why attempts failed: traceback and log, to keys of the scope admin.
    """
    job_id, is_whole = _one_job(words or [])
    if cancel and job_id is None:
        raise typer.BadParameter("name the job to cancel", param_hint="JOB_ID")
    with connect(url) as connection:
        if job_id is not None:
            rows = [connection.json("DELETE" if cancel else "GET", f"/api/v1/jobs/{job_id}")]
        else:
            filters = {key: value for key, value in (("model", model), ("state", state)) if value}
            rows = connection.json("GET", "/api/v1/jobs", params=filters)
    if is_whole:
        for part in _whole(rows[0]):
            console.print(part, soft_wrap=True)
        return
    console.print(tables.jobs(rows))
    if any(row["error"] for row in rows):
        console.print(tables.failures(rows))


def _one_job(words: list[str]) -> tuple[str | None, bool]:
    """The id of the job that is named, and whether all of it is to be shown."""
    is_whole = words[:1] == [_SHOW]
    ids = words[1:] if is_whole else words
    if len(ids) > 1 or (is_whole and not ids):
        raise typer.BadParameter("name one job: octet jobs [show] JOB_ID", param_hint="JOB_ID")
    return (ids[0] if ids else None), is_whole


def _whole(job: Mapping[str, Any]) -> Iterator[RenderableType]:
    for name in (*_SHOWN, *_MOMENTS):
        if job.get(name) is not None:
            yield Text.assemble((f"{name.replace('_', ' '):12}", "dim"), str(job[name]))
    for name, value in job["options"].items():
        yield Text.assemble((f"{'option':12}", "dim"), f"{name}={value}")
    if job["error"]:
        yield Text(f"\n{job['error']}", style="red")
    for failure in job.get("failures") or ():
        yield Text(f"\nattempt {failure['attempt']} failed at {failure['at']}: {failure['error']}", style="bold")
        for name in ("traceback", "log"):
            if failure[name]:
                yield Text.assemble((f"\n{name}\n", "bold"), failure[name])
    if job["state"] == "failed" and job.get("failures") is None:
        yield Text("\ntraceback and log are shown to keys of the scope admin", style="dim")
