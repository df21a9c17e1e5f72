"""`octet serve`, `octet gateway`, `octet worker`: the processes of the service."""

import gc
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app import logs
from app.cli.parent import end_with_parent
from app.cli.supervisor import check_exposure, check_grpc_port, grpc_port_beside, start_service

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from app.settings import Settings

# From SIGTERM to the end, the longest.
_STOP_SECONDS = 30

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [default: OCTET_HOST or 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks one.  [default: OCTET_PORT or 8000]")]
GrpcPort = Annotated[int | None, typer.Option(help="Port for gRPC; 0 for none.  [default: OCTET_GRPC_PORT or 8001]")]
Home = Annotated[Path | None, typer.Option(help="Where everything is kept.  [default: OCTET_HOME or .octet]")]
Insecure = Annotated[
    bool | None,
    typer.Option("--insecure", help="Answer beyond this machine without any key.  [default: OCTET_INSECURE or no]"),
]
WithParent = Annotated[int | None, typer.Option("--with-parent", hidden=True)]


def serve(
    host: Host = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    home: Home = None,
    insecure: Insecure = None,
) -> None:
    """Run gateway and worker on embedded defaults until Ctrl-C or SIGTERM."""
    from app.settings import Settings

    settings = Settings()
    port = settings.port if port is None else port
    with start_service(
        home=home or settings.home,
        host=host or settings.host,
        port=port,
        grpc_port=grpc_port_beside(port, settings) if grpc_port is None else grpc_port,
        insecure=settings.insecure or bool(insecure),
    ) as service:
        grpc = f"  ·  gRPC on port {service.grpc_port}" if service.grpc_port else ""
        docs = f"API docs {service.url}/docs"
        typer.echo(f"Octet serves at {service.url}{grpc}  ·  {docs}  ·  files under {service.home}")
        code = service.wait()
    raise typer.Exit(code)


def gateway(
    host: Host = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that serve the port.  [default: OCTET_GATEWAY_WORKERS or 1]")
    ] = None,
    insecure: Insecure = None,
    with_parent: WithParent = None,
) -> None:
    """Run the gateway alone: the API, inference and the dashboard."""
    from app.settings import Settings

    if with_parent is not None:
        end_with_parent(with_parent)
    options = {"host": host, "port": port, "grpc_port": grpc_port, "gateway_workers": workers, "insecure": insecure}
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings(**given)  # type: ignore[arg-type]
    check_grpc_port(settings.host, settings.grpc_port)
    logs.configure(settings.log_level, settings.log_format)
    check_exposure(settings)
    if settings.gateway_workers == 1:
        _listen(_application(settings), settings)
        return
    with tempfile.TemporaryDirectory(prefix="octet-") as folder:
        # What the command line said reaches the processes as what the environment would have said.
        os.environ["OCTET_HOST"] = settings.host
        os.environ["OCTET_GRPC_PORT"] = str(settings.grpc_port)
        os.environ["OCTET_INSECURE"] = str(settings.insecure)
        os.environ["OCTET_GATEWAY_WORKERS"] = str(settings.gateway_workers)
        os.environ["OCTET_SIBLINGS_FOLDER"] = folder
        _listen("app.cli.processes:gateway_process", settings, workers=settings.gateway_workers, factory=True)


def gateway_process() -> "ASGIApp":
    """What each of several processes serves."""
    from app.settings import Settings

    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with_parent(parent.pid)
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    return _application(settings)


def _application(settings: "Settings") -> "ASGIApp":
    # Nothing that imports make is garbage; to look for some takes an eighth of a start.
    gc.disable()
    from app.main import create_app
    from app.serving.memory import keep_freed_blocks

    keep_freed_blocks()
    # By default a thread keeps Python's lock for 5 ms before it lets the event loop have it: ten small requests.
    sys.setswitchinterval(0.0005)
    app = create_app(settings)
    # What is here by now stays. To look through it for garbage again and again holds up requests: by 30 ms each time.
    gc.collect()
    gc.freeze()
    gc.enable()
    return app


def _listen(app: "ASGIApp | str", settings: "Settings", **options: Any) -> None:
    import uvicorn

    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here depends on what a proxy says of its client.
        proxy_headers=False,
        timeout_graceful_shutdown=int(_STOP_SECONDS - settings.drain_seconds),
        **options,
    )


def worker(
    concurrency: Annotated[int | None, typer.Option(min=1, help="Jobs at once.")] = None,
    with_parent: WithParent = None,
) -> None:
    """Run a worker alone: it takes jobs from the queue and makes variants."""
    if with_parent is not None:
        end_with_parent(with_parent)
    if concurrency is not None:
        os.environ["OCTET_WORKER_CONCURRENCY"] = str(concurrency)
    # The gateway's code knows the worker by its command only: neither imports the other.
    arguments = ["-A", "worker.celery_app", "--quiet", "worker", "--pool", "threads"]
    arguments += ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    os.execv(sys.executable, [sys.executable, "-m", "celery", *arguments])
