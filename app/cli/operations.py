"""`octet migrate`, `octet config`, `octet health`: what an operator runs."""

import json
import urllib.error
import urllib.request
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import Unavailable
from app.masking import masked

if TYPE_CHECKING:
    from app.settings import Settings


class Part(StrEnum):
    """A process of the service."""

    gateway = "gateway"
    worker = "worker"


def migrate() -> None:
    """Bring the registry's schema up to date; harmless when it is."""
    from app.registry import migrations
    from app.settings import Settings

    settings = Settings()
    settings.make_folders()
    migrations.upgrade(settings.registry_url)
    typer.echo(f"The registry at {masked(settings.registry_url)} is up to date.")


def config(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Print the configuration in force; passwords are masked."""
    from app.settings import Settings

    settings = Settings()
    values = {
        name: masked(value) if isinstance(value, str) else value
        for name, value in settings.model_dump(mode="json").items()
    }
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("variable", "value", "", "meaning")
    for name, value in values.items():
        origin = "set" if name in settings.model_fields_set else "default"
        table.add_row(f"OCTET_{name.upper()}", str(value), origin, Settings.model_fields[name].description or "")
    Console().print(table)


def health(part: Annotated[Part, typer.Argument(help="Which process of this host.")]) -> None:
    """Exit with 0 when the gateway or worker of this host does its work."""
    from app.settings import Settings

    settings = Settings()
    if part is Part.gateway:
        _check_gateway(settings)
    else:
        _check_worker(settings)
    typer.echo(f"the {part} is well")


def _check_gateway(settings: "Settings") -> None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.port}/v2/health/ready", timeout=5):
            return
    except (urllib.error.URLError, OSError) as error:
        raise Unavailable(f"the gateway is not ready on port {settings.port}: {error}") from error


def _check_worker(settings: "Settings") -> None:
    from app.registry import Database, workers

    database = Database(settings.registry_url)
    with database.reading() as session:
        alive = workers.alive(session, within_seconds=3 * settings.sweep_seconds + 5)
    database.close()
    if not any(workers.is_here(worker.name, settings.home) for worker in alive):
        raise Unavailable(f"no worker of this machine with files under {settings.home.absolute()} was heard of lately")
