"""The console command `octet`."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from app import __version__
from app.cli import client, demo, operations, processes
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
) -> None:
    """A model server that quantizes on upload."""


for command in (processes.serve, processes.gateway, processes.worker):
    app.command(rich_help_panel="Run")(command)
for command in (operations.migrate, operations.config, operations.health):
    app.command(rich_help_panel="Operate")(command)
for command in (client.upload, client.quantize, client.jobs, client.compare, client.infer, client.download):
    app.command(rich_help_panel="Use")(command)
app.command(rich_help_panel="Run")(demo.demo)


def main() -> None:
    """Run the command line; errors that a user can act on are one line, not a traceback."""
    try:
        app()
    except OctetError as error:
        Console(stderr=True).print(f"[red]octet: {error.detail}[/red]", highlight=False, soft_wrap=True)
        sys.exit(1)
