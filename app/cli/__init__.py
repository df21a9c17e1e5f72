"""The console command `octet`."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from app import __version__
from app.cli import connection
from app.cli.client import compare, default, download, infer, override, quantize, upload
from app.cli.demo import demo
from app.cli.doctor import doctor
from app.cli.experiments import ab
from app.cli.housekeeping import backup, gc, restore
from app.cli.job_commands import jobs
from app.cli.keys import audit, keys
from app.cli.operations import config, health, migrate
from app.cli.processes import gateway, serve, worker
from app.cli.reports import report
from app.errors import OctetError

app = typer.Typer(
    name="octet",
    help="A model server that quantizes on upload.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"octet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="OCTET_API_KEY",
            show_envvar=True,
            help="The key for a service that has keys. In the variable, other users of the machine do not see it.",
        ),
    ] = None,
) -> None:
    """A model server that quantizes on upload."""
    connection.API_KEY.set(api_key or None)


_COMMANDS: dict[str, list[Callable[..., None]]] = {
    "Run": [serve, demo, gateway, worker],
    "Use": [upload, quantize, jobs, compare, report, default, override, infer, download],
    "Operate": [migrate, config, health, doctor, gc, backup, restore, audit],
}
for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(ab, rich_help_panel="Use")
app.add_typer(keys, rich_help_panel="Operate")


def main() -> None:
    """Run the command line; errors that a user can act on are one line, not a traceback."""
    try:
        app()
    except OctetError as error:
        line = Text(f"octet: {error.detail}", style="red")
        Console(stderr=True).print(line, soft_wrap=True)
        sys.exit(1)
