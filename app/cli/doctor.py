"""`octet doctor`: what is wrong, and what to do about it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Look at the registry, the broker, the disk, the CPU and the workers; exit with 1 when something is wrong."""
    from app.housekeeping.doctor import State, examine
    from app.settings import Settings

    findings = list(examine(Settings()))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table("", "", "", box=SIMPLE_HEAD, show_header=False, pad_edge=False)
        for finding in findings:
            told = Text(finding.told)
            if finding.advice:
                told.append(f"\n→ {finding.advice}", style="italic")
            table.add_row(finding.what, Text(finding.state, style=_STYLES[finding.state]), told)
        Console().print(table)
    if any(finding.state is State.problem for finding in findings):
        raise typer.Exit(1)
