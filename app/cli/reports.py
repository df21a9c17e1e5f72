"""`octet report`: what was measured of a variant, in the terminal, as a file, or in a browser."""

import webbrowser
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

# `client` as a module: a test puts another console in the place of its own.
from app.cli import client, report_tables
from app.cli.client import LOCAL, Url
from app.cli.connection import Connection, Refused, connect


class Format(StrEnum):
    """What a report can be written as."""

    html = "html"
    json = "json"
    csv = "csv"


_MEDIA_TYPES: Mapping[Format, str] = {
    Format.html: "text/html",
    Format.json: "application/json",
    Format.csv: "text/csv",
}


def report(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    variant: Annotated[str, typer.Argument(help="A variant's label or version.")],
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="html, json, or csv of the layers.  [default: that of the file's ending]"),
    ] = None,
    layers: Annotated[int, typer.Option(min=0, help="So many of the layers, the noisiest first.")] = 10,
    url: Url = LOCAL,
) -> None:
    """Show what was measured of a variant: the verdict, the figures, and the layers that lost most."""
    form = _form(output, format_, open_=open_)
    with connect(url) as connection:
        if form is None or open_:
            _print(connection, model, variant, layers)
        if form is None:
            return
        content = _fetched(connection, model, variant, form)
    if output is None and not open_:
        typer.echo(content, nl=False)
        return
    file = output if output is not None else _kept_file(model, variant)
    _write(file, content, own_folder=output is None)
    client.console.print(Text.assemble("written to ", (str(file.absolute()), "bold")), soft_wrap=True)
    if open_:
        _open(file)


def _form(output: Path | None, wanted: Format | None, *, open_: bool) -> Format | None:
    """What to fetch; None where the report is only to be printed."""
    if open_ and wanted not in (None, Format.html):
        raise typer.BadParameter("a browser is shown the page: leave --format out", param_hint="--format")
    if wanted is not None or open_:
        return wanted or Format.html
    if output is None:
        return None
    ending = output.suffix.lower().removeprefix(".")
    if ending not in set(Format):
        raise typer.BadParameter(
            f"'{output.name}' does not end in .html, .json or .csv: name a --format", param_hint="--output"
        )
    return Format(ending)


def _path(model: str, variant: str) -> str:
    return f"/api/v1/models/{model}/variants/{variant}/report"


def _print(connection: Connection, model: str, variant: str, layers: int) -> None:
    found = connection.json("GET", _path(model, variant), headers={"Accept": _MEDIA_TYPES[Format.json]})
    for part in report_tables.summary(found, layers, client.console.width):
        client.console.print(part)


def _fetched(connection: Connection, model: str, variant: str, form: Format) -> str:
    wanted = _MEDIA_TYPES[form]
    answer = connection.call("GET", _path(model, variant), headers={"Accept": wanted})
    if answer.headers.get("Content-Type", "").partition(";")[0] != wanted:
        raise Refused(f"the server has no report as {form}")
    return answer.text


def _kept_file(model: str, variant: str) -> Path:
    """A file of the user's own, which the next report on the same variant takes the place of."""
    return Path(typer.get_app_dir("octet")) / "reports" / f"{model}-{variant}.html"


def _write(file: Path, content: str, *, own_folder: bool) -> None:
    try:
        if own_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        # As it came: a CSV file has line ends of its own.
        file.write_bytes(content.encode())
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror}") from error


def _open(file: Path) -> None:
    if not webbrowser.open(file.absolute().as_uri()):
        client.console.print("No browser was found here: open the file in one.", style="yellow")
