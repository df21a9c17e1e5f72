"""`octet serve`, `octet gateway`, `octet worker`: the processes of the service."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.parent import end_with_parent
from app.cli.supervisor import check_grpc_port, grpc_port_beside, start_service
from app.settings import Settings

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [default: OCTET_HOST or 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks one.  [default: OCTET_PORT or 8000]")]
GrpcPort = Annotated[int | None, typer.Option(help="Port for gRPC; 0 for none.  [default: OCTET_GRPC_PORT or 8001]")]
Home = Annotated[Path | None, typer.Option(help="Where everything is kept.  [default: OCTET_HOME or .octet]")]
WithParent = Annotated[int | None, typer.Option("--with-parent", hidden=True)]


def serve(host: Host = None, port: Port = None, grpc_port: GrpcPort = None, home: Home = None) -> None:
    """Run gateway and worker on embedded defaults until Ctrl-C or SIGTERM."""
    settings = Settings()
    port = settings.port if port is None else port
    with start_service(
        home=home or settings.home,
        host=host or settings.host,
        port=port,
        grpc_port=grpc_port_beside(port, settings) if grpc_port is None else grpc_port,
    ) as service:
        grpc = f"  ·  gRPC on port {service.grpc_port}" if service.grpc_port else ""
        docs = f"API docs {service.url}/docs"
        typer.echo(f"Octet serves at {service.url}{grpc}  ·  {docs}  ·  files under {service.home}")
        code = service.wait()
    raise typer.Exit(code)


def gateway(host: Host = None, port: Port = None, grpc_port: GrpcPort = None, with_parent: WithParent = None) -> None:
    """Run the gateway alone: the API, inference and the dashboard."""
    if with_parent is not None:
        end_with_parent(with_parent)
    import uvicorn

    from app.main import create_app

    options = {"host": host, "port": port, "grpc_port": grpc_port}
    settings = Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]
    check_grpc_port(settings.host, settings.grpc_port)
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
