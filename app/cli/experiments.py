"""`octet ab create`, `list`, `status`, `start`, `pause`, `stop`, `rollback`, `promote`."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

# `client` as a module: a test puts another console in the place of its own.
from app.cli import client, experiment_tables
from app.cli.client import LOCAL, Url
from app.cli.connection import Connection, Refused, connect

_EVERY_S = 1.0
_LIVE = ("running", "paused")
_FINAL = ("stopped", "rolled_back", "promoted")

Model = Annotated[str, typer.Argument(help="A model's name.")]
Id = Annotated[str | None, typer.Option("--id", help="The experiment.  [default: the live one, or the newest]")]
Reason = Annotated[str, typer.Option(help="Why, for the timeline.")]

ab = typer.Typer(
    name="ab", help="Compare variants on live traffic.", no_args_is_help=True, pretty_exceptions_enable=False
)


def create(
    model: Model,
    variants: Annotated[list[str], typer.Argument(help="What is compared with the control: variants, by label.")],
    control: Annotated[str, typer.Option(help="What they are compared with.")] = "original",
    name: Annotated[str | None, typer.Option(help="Its name.  [default: the variants]")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="VARIANT=WEIGHT.  [default: all the same]")] = None,
    coverage: Annotated[float | None, typer.Option(help="The part of all units that takes part, 0 to 1.")] = None,
    shadow: Annotated[list[str] | None, typer.Option(help="VARIANT=SAMPLE: a part of the requests, 0 to 1.")] = None,
    guardrail: Annotated[
        list[str] | None, typer.Option(help="METRIC=LIMIT, such as error_rate=0.002 or latency_p95=0.1.")
    ] = None,
    ramp: Annotated[str, typer.Option(help="Steps of the coverage, such as 0.01,0.1,0.5.")] = "",
    hold: Annotated[float, typer.Option(help="Seconds at least between steps.")] = 300,
    min_units: Annotated[int, typer.Option(help="Units at least between steps.")] = 500,
    seed: Annotated[str | None, typer.Option(help="Who gets what follows from it.  [default: random]")] = None,
    alpha: Annotated[float, typer.Option(help="How often intervals may be wrong.")] = 0.05,
    start: Annotated[bool, typer.Option("--start", help="Start it too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be, and keep nothing.")] = False,
    url: Url = LOCAL,
) -> None:
    """Set up an experiment."""
    weights = _pairs("--weight", weight)
    wanted: dict[str, Any] = {
        "name": name or "-".join((*variants, "live")),
        "arms": [
            {"variant": label, "weight": weights.pop(label, 50.0), "control": label == control}
            for label in (control, *variants)
        ],
        "coverage": coverage,
        "shadow": [{"variant": label, "sample": part} for label, part in _pairs("--shadow", shadow).items()],
        "guardrails": [
            {"metric": metric, _limit_of(metric): limit} for metric, limit in _pairs("--guardrail", guardrail).items()
        ],
        "ramp": {"steps": _numbers("--ramp", ramp), "hold_s": hold, "min_units": min_units} if ramp else None,
        "seed": seed,
        "analysis": {"alpha": alpha},
        "dry_run": dry_run,
    }
    if weights:
        raise typer.BadParameter(f"'{next(iter(weights))}' is no arm", param_hint="--weight")
    with connect(url) as connection:
        made = connection.json("POST", _path(model), json=wanted)
        if start and not dry_run:
            made = connection.json("POST", f"{_path(model)}/{made['id']}/start")
    client.console.print(experiment_tables.listing([made]))


def list_(model: Model, url: Url = LOCAL) -> None:
    """List a model's experiments, the newest first."""
    with connect(url) as connection:
        client.console.print(experiment_tables.listing(connection.json("GET", _path(model))))


def status(
    model: Model,
    experiment: Id = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and not as it changes.")] = False,
    url: Url = LOCAL,
) -> None:
    """Show what is known of an experiment, as it changes; ends with it, or by Ctrl-C."""
    with connect(url) as connection:
        address = f"{_path(model)}/{_chosen(connection, model, experiment)}"
        view = connection.json("GET", address)
        if once or not client.console.is_terminal:
            client.console.print(experiment_tables.status(view, client.console.width))
            return
        with Live(experiment_tables.status(view, client.console.width), console=client.console) as live:
            try:
                while view["state"] not in _FINAL:
                    _pause()
                    view = connection.json("GET", address)
                    live.update(experiment_tables.status(view, client.console.width), refresh=True)
            except KeyboardInterrupt:
                return


def start(model: Model, experiment: Id = None, url: Url = LOCAL) -> None:
    """Start an experiment, or go on with one that is paused."""
    _act(url, model, experiment, "start")


def pause(model: Model, experiment: Id = None, url: Url = LOCAL) -> None:
    """Have the default answer all until it is started again."""
    _act(url, model, experiment, "pause")


def stop(model: Model, experiment: Id = None, reason: Reason = "", url: Url = LOCAL) -> None:
    """End an experiment without a winner."""
    _act(url, model, experiment, "stop", {"reason": reason or None})


def rollback(
    model: Model,
    variant: Annotated[str | None, typer.Argument(help="The arm.  [default: each but the control]")] = None,
    experiment: Id = None,
    reason: Reason = "asked for",
    url: Url = LOCAL,
) -> None:
    """Take the units of an arm away."""
    _act(url, model, experiment, "rollback", {"variant": variant, "reason": reason})


def promote(
    model: Model,
    variant: Annotated[str, typer.Argument(help="The arm that answers from now on.")],
    experiment: Id = None,
    url: Url = LOCAL,
) -> None:
    """Make an arm the model's default, and end the experiment."""
    _act(url, model, experiment, "promote", {"variant": variant})


_COMMANDS: Mapping[str, Callable[..., None]] = {
    "create": create,
    "list": list_,
    "status": status,
    "start": start,
    "pause": pause,
    "stop": stop,
    "rollback": rollback,
    "promote": promote,
}
for _name, _command in _COMMANDS.items():
    ab.command(_name)(_command)


def _pause() -> None:
    time.sleep(_EVERY_S)


def _path(model: str) -> str:
    return f"/api/v1/models/{model}/experiments"


def _act(url: str, model: str, experiment: str | None, action: str, body: Mapping[str, Any] | None = None) -> None:
    with connect(url) as connection:
        chosen = _chosen(connection, model, experiment)
        view = connection.json("POST", f"{_path(model)}/{chosen}/{action}", json=body)
    client.console.print(Text.assemble((view["name"], "bold"), f" of {model} is {view['state']}"))


def _chosen(connection: Connection, model: str, experiment: str | None) -> str:
    """The id given, or that of the live experiment, or else of the newest."""
    if experiment is not None:
        return experiment
    known: Sequence[dict[str, Any]] = connection.json("GET", _path(model))
    if not known:
        raise Refused(f"'{model}' has no experiment; `octet ab create {model} VARIANT` makes one")
    return str(next((each["id"] for each in known if each["state"] in _LIVE), known[0]["id"]))


def _pairs(option: str, given: Sequence[str] | None) -> dict[str, float]:
    pairs: dict[str, float] = {}
    for each in given or ():
        # An outcome's name may have anything in it.
        name, separator, value = each.rpartition("=")
        if not separator:
            raise typer.BadParameter(f"'{each}' is not NAME=NUMBER", param_hint=option)
        (pairs[name],) = _numbers(option, value)
    return pairs


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is not a number", param_hint=option) from error


def _limit_of(metric: str) -> str:
    if metric == "disagreement":
        return "max"
    return "margin_rel" if metric.startswith("latency_") else "margin_abs"
