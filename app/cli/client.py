"""`octet upload`, `quantize`, `compare`, `infer`, `download`: the service over HTTP."""

import json
import re
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from app.cli import tables
from app.cli.connection import Connection, Refused, connect
from app.cli.marks import marks
from app.cli.progress import bytes_bar, follow
from app.contracts.methods import EVALUATE, METHODS
from app.intake.dataset_formats import endings

Url = Annotated[str, typer.Option(envvar="OCTET_URL", help="Where the service is.")]
LOCAL = "http://127.0.0.1:8000"
_UPLOADS = f"A model (.onnx, or a .zip or .tar of one) or a dataset ({', '.join(endings())})."

console = Console()


class Kind(StrEnum):
    """What a file is uploaded as."""

    auto = "auto"
    model = "model"
    dataset = "dataset"


def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=_UPLOADS)],
    name: Annotated[str | None, typer.Option(help="Its name.  [default: the file's]")] = None,
    kind: Annotated[Kind, typer.Option(help="`auto` goes by the file's ending and content.")] = Kind.auto,
    dataset: Annotated[str, typer.Option(help="Dataset for the jobs of --quantize.")] = "",
    quantize: Annotated[str, typer.Option(help="Methods, separated by commas, such as fp16,dynamic,int8.")] = "",
    labels: Annotated[Path | None, typer.Option(exists=True, help="Class names: a JSON list, or one a line.")] = None,
    preprocess: Annotated[str, typer.Option(help="JSON: how images or columns become arrays.")] = "",
    url: Url = LOCAL,
) -> None:
    """Upload a model or a dataset."""
    name = name or _name_of(file)
    is_model = kind is Kind.model or (kind is Kind.auto and _holds_model(file))
    with connect(url) as connection:
        if not is_model:
            made = _upload(connection, "/api/v1/datasets", file, {"name": name, "preprocess": preprocess})
            console.print(f"dataset [bold]{name}[/bold]: {made['samples']} samples, {escape(_arrays(made))}")
            return
        fields = {"name": name, "dataset": dataset, "quantize": quantize, "labels": _labels(labels)}
        made = _upload(connection, "/api/v1/models", file, fields)
        console.print(f"model [bold]{name}[/bold], revision {made['revision']}: {made['size_bytes'] / 1e6:.2f} MB")
        wanted = {word.strip() for word in quantize.split(",")}
        _follow_to_end(connection, [job for job in made["jobs"] if job["method"] in wanted])


def _upload(connection: Connection, path: str, file: Path, fields: dict[str, str]) -> Any:
    with bytes_bar(console, f"uploading {file.name}", file.stat().st_size) as count:
        return connection.upload(path, file, fields, count)


def _holds_model(file: Path) -> bool:
    if file.suffix.lower() == ".zip" and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return any(name.lower().endswith(".onnx") for name in archive.namelist())
    return file.suffix.lower() in {".onnx", ".tar", ".tgz", ".gz"}


def _name_of(file: Path) -> str:
    """A valid name as close as may be to the file's."""
    stem = file.name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("._-")[:63] or "unnamed"


def _labels(file: Path | None) -> str:
    if file is None:
        return ""
    text = file.read_text()
    return text if text.lstrip().startswith("[") else json.dumps(text.splitlines())


def _arrays(dataset: dict[str, Any]) -> str:
    return ", ".join(f"{array['name']} {array['dtype']}{array['shape']}" for array in dataset["arrays"])


def quantize(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    methods: Annotated[list[str], typer.Argument(help=f"{', '.join(METHODS)}; or {EVALUATE.name}.")],
    dataset: Annotated[str | None, typer.Option(help="Calibrates and evaluates.")] = None,
    variant: Annotated[str | None, typer.Option(help="The variant's label.  [default: the method]")] = None,
    option: Annotated[list[str] | None, typer.Option(help="An option of the method: key=value.")] = None,
    wait: Annotated[bool, typer.Option(help="Show the progress until the jobs have ended.")] = True,
    url: Url = LOCAL,
) -> None:
    """Make variants of a model, or evaluate it as it is."""
    if variant is not None and len(methods) > 1:
        raise typer.BadParameter("one label cannot name the variants of several methods", param_hint="--variant")
    with connect(url) as connection:
        jobs = [
            connection.json(
                "POST",
                "/api/v1/jobs",
                json={
                    "model": model,
                    "method": method,
                    "dataset": dataset,
                    "variant": variant,
                    "options": _options(option or []),
                },
            )
            for method in methods
        ]
        if not wait:
            console.print(tables.jobs(jobs))
            return
        _follow_to_end(connection, jobs)
        _print_comparison(connection, model)


def _options(pairs: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"'{pair}' is not key=value", param_hint="--option")
        try:
            options[key] = json.loads(value, parse_constant=_refuse_constant)
        except ValueError:
            options[key] = value
    return options


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _follow_to_end(connection: Connection, jobs: list[dict[str, Any]]) -> None:
    """Bars until all have ended; exits with 1 when one did not succeed."""
    ended = follow(console, connection, jobs) if jobs else []
    for job in ended:
        if job["state"] != "succeeded":
            line = f"{job['variant']} {job['state']}: {job['error'] or 'by request'}"
            console.print(Text(line, style="red"), soft_wrap=True)
        if job["state"] == "failed":
            console.print(Text(f"octet jobs show {job['id']} says why", style="dim"), soft_wrap=True)
    if any(job["state"] != "succeeded" for job in ended):
        raise typer.Exit(1)


def compare(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all figures.")] = False,
    url: Url = LOCAL,
) -> None:
    """Compare a model's variants: size, accuracy, agreement, latency, speedup, and which to take."""
    with connect(url) as connection:
        if as_json:
            typer.echo(json.dumps(connection.json("GET", f"/api/v1/models/{model}/variants"), indent=2))
        else:
            _print_comparison(connection, model)


def _print_comparison(connection: Connection, model: str) -> None:
    rows = connection.json("GET", f"/api/v1/models/{model}/variants")
    marked = marks(rows)
    console.print(tables.comparison(model, rows, console.width, marked))
    if any(row["reasons"] for row in rows):
        console.print(tables.rejections(rows))
    console.print(Text(marked.advice))
    console.print(Text(tables.footnote(rows, marked)), style="dim")


def default(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    variant: Annotated[str, typer.Argument(help="A variant's label or version.")],
    override: Annotated[bool, typer.Option("--override", help="Even if it was rejected.")] = False,
    url: Url = LOCAL,
) -> None:
    """Choose the variant that answers when a client names none."""
    with connect(url) as connection:
        wanted = {"variant": variant, "override": override}
        chosen = connection.json("PUT", f"/api/v1/models/{model}/default", json=wanted)
        console.print(f"[bold]{chosen['variant']}[/bold] answers for {model} from now on")


def override(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    variant: Annotated[str, typer.Argument(help="A variant's label or version.")],
    take_back: Annotated[bool, typer.Option("--take-back", help="Have the verdict hold again.")] = False,
    url: Url = LOCAL,
) -> None:
    """Let a rejected variant serve."""
    with connect(url) as connection:
        method = "DELETE" if take_back else "PUT"
        row = connection.json(method, f"/api/v1/models/{model}/variants/{variant}/override")
        serves = row["verdict"] != "rejected" or row["overridden"]
        console.print(f"[bold]{row['variant']}[/bold] {'serves' if serves else 'does not serve'}")


def infer(
    model: Annotated[str, typer.Argument(help="MODEL or MODEL@VARIANT.")],
    file: Annotated[
        Path, typer.Option("--input", exists=True, help=".npz with the model's inputs, or .npy with its only one.")
    ],
    sample: Annotated[int, typer.Option(help="Which sample of the file.")] = 0,
    top: Annotated[int, typer.Option(help="So many classes of an output of scores.")] = 3,
    url: Url = LOCAL,
) -> None:
    """Ask a variant about one sample."""
    from app.cli import inference

    with connect(url) as connection:
        answer = inference.ask(connection, model, inference.read_sample(file, sample))
        labels = connection.json("GET", f"/api/v1/models/{model.partition('@')[0]}")["labels"]
    console.print(f"[bold]{answer.variant}[/bold] answered in {answer.milliseconds:.1f} ms, the way there included")
    for line in inference.described(answer, labels, top):
        console.print(line, highlight=False, markup=False)


def download(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    variant: Annotated[str, typer.Argument(help="A variant's label or version.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    url: Url = LOCAL,
) -> None:
    """Download a variant as ONNX, checked against its digest."""
    with connect(url) as connection:
        row = connection.json("GET", f"/api/v1/models/{model}/variants/{variant}")
        for position, part in enumerate(row["files"]):
            beside = output.parent if output is not None else Path()
            # Only the model may be renamed: it refers to its data file by name.
            target = output if output is not None and position == 0 else beside / Path(part["name"]).name
            if target.is_dir():
                raise Refused(f"{target} is a folder; name a file")
            total = row["size_bytes"] if len(row["files"]) == 1 else None
            with bytes_bar(console, str(target), total) as count:
                connection.download(part["url"], target, count)
