"""`octet serve`, `octet gateway`, `octet worker`: the processes of the service."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.parent import end_with_parent
from app.cli.supervisor import start_service
from app.settings import Settings

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [default: OCTET_HOST or 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks one.  [default: OCTET_PORT or 8000]")]
Home = Annotated[Path | None, typer.Option(help="Where everything is kept.  [default: OCTET_HOME or .octet]")]
WithParent = Annotated[int | None, typer.Option("--with-parent", hidden=True)]


def serve(host: Host = None, port: Port = None, home: Home = None) -> None:
    """Run gateway and worker on embedded defaults until Ctrl-C or SIGTERM."""
    settings = Settings()
    with start_service(
        home=home or settings.home,
        host=host or settings.host,
        port=settings.port if port is None else port,
    ) as service:
        typer.echo(f"Octet serves at {service.url}  ·  API docs {service.url}/docs  ·  files under {service.home}")
        code = service.wait()
    raise typer.Exit(code)


def gateway(host: Host = None, port: Port = None, with_parent: WithParent = None) -> None:
    """Run the gateway alone: the API, inference and the dashboard."""
    if with_parent is not None:
        end_with_parent(with_parent)
    import uvicorn

    from app.main import create_app

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = Settings(**given)  # type: ignore[arg-type]
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_graceful_shutdown=30,
    )


def worker(
    concurrency: Annotated[int | None, typer.Option(min=1, help="Jobs at once.")] = None,
    with_parent: WithParent = None,
) -> None:
    """Run a worker alone: it takes jobs from the queue and makes variants."""
    if with_parent is not None:
        end_with_parent(with_parent)
    jobs_at_once = concurrency or Settings().worker_concurrency
    os.environ["OCTET_WORKER_CONCURRENCY"] = str(jobs_at_once)
    # The gateway's code knows the worker by its command only: neither imports the other.
    arguments = ["-A", "worker.celery_app", "--quiet", "worker", "--pool", "threads"]
    arguments += ["--concurrency", str(jobs_at_once), "--loglevel", "WARNING"]
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    os.execv(sys.executable, [sys.executable, "-m", "celery", *arguments])
