"""`octet demo`: the whole road in one command, on an example that ships with Octet."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

import app
from app.cli import tables
from app.cli.connection import Connection, Refused, connect
from app.cli.marks import marks
from app.cli.progress import bytes_bar, follow
from app.cli.supervisor import Service, grpc_port_beside, is_free, start_service

MODEL, DATASET = "resnet20", "cifar10"
METHODS = ("fp16", "dynamic", "int8")

console = Console()


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End when all is shown, instead of serving on.")] = False,
    home: Annotated[
        Path | None, typer.Option(help="Where everything is kept.  [default: OCTET_HOME or .octet]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [default: OCTET_PORT or 8000]")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Answer beyond this machine without any key.")] = False,
) -> None:
    """Start the service, upload an example model and dataset, quantize, compare, infer."""
    from app.settings import Settings

    examples = _examples()
    settings = Settings()
    home = home or settings.home
    wanted = settings.port if port is None else port
    home.mkdir(parents=True, exist_ok=True)
    if port is None and not is_free(settings.host, wanted):
        console.print(f"Port {wanted} is taken: a free one is used instead.")
        wanted = 0
    grpc_port = grpc_port_beside(wanted, settings)
    if grpc_port and not is_free(settings.host, grpc_port):
        console.print(f"Port {grpc_port} is taken: nothing is served over gRPC.")
        grpc_port = 0
    log = home / "octet.log"
    insecure = insecure or settings.insecure
    with start_service(
        home=home, host=settings.host, port=wanted, grpc_port=grpc_port, log=log, insecure=insecure
    ) as service:
        raise typer.Exit(_show(service, examples, leave=leave))


def _examples() -> Path:
    folder = Path(app.__file__).parents[1] / "examples"
    if not (folder / "resnet20.onnx").exists():
        raise Refused(f"the example model is not at {folder}: run the demo from a checkout of Octet")
    return folder


def _show(service: Service, examples: Path, *, leave: bool) -> int:
    console.print(Rule("1 · the service", align="left"))
    console.print(f"Gateway and worker run at [bold]{service.url}[/bold]; all they keep is under {service.home}")
    with connect(service.url) as connection:
        _upload(connection, examples)
        _quantize(connection)
        console.print(Rule("4 · the comparison", align="left"))
        rows = connection.json("GET", f"/api/v1/models/{MODEL}/variants")
        marked = marks(rows)
        console.print(tables.comparison(MODEL, rows, console.width, marked))
        console.print(Text(marked.advice))
        console.print(Text(tables.footnote(rows, marked)), style="dim")
        _infer(connection, examples, [row["variant"] for row in rows])
    _print_urls(service)
    if leave:
        return 0
    console.print("Serving until Ctrl-C.", style="dim")
    return service.wait()


def _upload(connection: Connection, examples: Path) -> None:
    console.print(Rule("2 · upload", align="left"))
    labels = (examples / "cifar10_labels.json").read_text()
    for path, file, fields in (
        ("/api/v1/datasets", examples / "cifar10_512.npz", {"name": DATASET}),
        ("/api/v1/models", examples / "resnet20.onnx", {"name": MODEL, "labels": labels}),
    ):
        with bytes_bar(console, f"{file.name:>16}", file.stat().st_size) as count:
            connection.upload(path, file, fields, count)


def _quantize(connection: Connection) -> None:
    console.print(Rule("3 · quantize: " + ", ".join(METHODS), align="left"))
    existing = {row["variant"] for row in connection.json("GET", f"/api/v1/models/{MODEL}/variants")}
    live = [
        job
        for job in connection.json("GET", "/api/v1/jobs", params={"model": MODEL})
        if job["state"] in {"queued", "running"}
    ]
    taken = existing | {job["variant"] for job in live}
    new = [
        connection.json("POST", "/api/v1/jobs", json={"model": MODEL, "method": method, "dataset": DATASET})
        for method in METHODS
        if method not in taken
    ]
    if not live and not new:
        console.print("All variants are there from an earlier run.")
    _check(follow(console, connection, [*live, *new]) if live or new else [])


def _check(ended: list[dict[str, Any]]) -> None:
    for job in ended:
        if job["state"] != "succeeded":
            raise Refused(f"the job for '{job['variant']}' {job['state']}: {job['error']}")


def _infer(connection: Connection, examples: Path, variants: list[str]) -> None:
    import numpy as np

    from app.cli import inference

    console.print(Rule("5 · inference on each variant", align="left"))
    names: list[str] = json.loads((examples / "cifar10_labels.json").read_text())
    sample = inference.read_sample(examples / "cifar10_512.npz", 7)
    truth = names[int(sample["label"][0])]
    for variant in variants:
        answer = inference.ask(connection, f"{MODEL}@{variant}", sample)
        scores = next(iter(answer.outputs.values()))[0]
        best = names[int(np.argmax(scores))]
        mark = "[green]✓[/green]" if best == truth else "[red]✗[/red]"
        console.print(f"{variant:>10}: {best} {mark} (label: {truth})", highlight=False)


def _print_urls(service: Service) -> None:
    console.print(Rule("now yours", align="left"))
    report = f"{service.url}/api/v1/models/{MODEL}/variants/int8/report"
    for what, url in (
        ("dashboard", f"{service.url}/"),
        ("API docs", f"{service.url}/docs"),
        ("report", report),
        ("inference", f"{service.url}/v2/models/{MODEL}/versions/int8/infer"),
    ):
        console.print(f"{what:>10}  {url}", soft_wrap=True)
