"""`octet ab` against the real gateway, in this process."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from rich.console import Console
from typer.testing import CliRunner, Result

from app import cli
from app.cli import client as client_commands
from app.cli import experiment_tables
from app.cli import experiments as commands
from app.cli.connection import Connection
from app.errors import OctetError
from app.experiments.counts import Counts
from app.registry import Database, records
from tests.app.live_experiment import SPLIT, URL, keep_counts


@pytest.fixture(autouse=True)
def connected(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(_: str) -> Iterator[Connection]:
        yield Connection(client)

    monkeypatch.setattr(commands, "connect", connect)


def octet(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["ab", *arguments])


def test_an_experiment_from_its_beginning_to_its_end(
    client: TestClient,
    registry: Database,
    output: io.StringIO,
) -> None:
    made = octet(
        "create", "linear", "int8", "--weight", "int8=25", "--shadow", "int8=0.5", "--coverage", "0.5",
        "--guardrail", "error_rate=0.01", "--guardrail", "latency_p95=0.1", "--guardrail", "disagreement=0.02",
        "--guardrail", "outcome:a.b=0.5", "--seed", "a seed",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    (view,) = client.get(URL).json()
    assert view["name"] == "int8-live"
    assert [(arm["variant"], arm["weight"], arm["control"]) for arm in view["arms"]] == [
        ("original", 50, True),
        ("int8", 25, False),
    ]
    assert view["guardrails"] == [
        {"metric": "error_rate", "margin_abs": 0.01},
        {"metric": "latency_p95", "margin_rel": 0.1},
        {"metric": "disagreement", "max": 0.02},
        {"metric": "outcome:a.b", "margin_abs": 0.5},
    ]
    for command, state in (("start", "running"), ("pause", "paused"), ("start", "running")):
        assert octet(command, "linear").exit_code == 0
        assert client.get(URL).json()[0]["state"] == state
    assert octet("list", "linear").exit_code == 0
    assert view["id"] in output.getvalue()
    assert octet("promote", "linear", "int8").exit_code == 0
    assert "int8-live of linear is promoted" in output.getvalue()
    assert client.get("/api/v1/models/linear").json()["default_variant"] == "int8"


def test_a_dry_run_keeps_nothing(client: TestClient, registry: Database, output: io.StringIO) -> None:
    assert octet("create", "linear", "int8", "--ramp", "0.01,0.5", "--dry-run", "--start").exit_code == 0
    assert "dry run" in output.getvalue()
    assert client.get(URL).json() == []


def test_commands_are_about_the_live_experiment_or_the_one_that_is_named(
    client: TestClient,
    registry: Database,
    output: io.StringIO,
) -> None:
    octet("create", "linear", "int8", "--name", "first", "--start")
    octet("create", "linear", "int8", "--name", "second")
    second, first = client.get(URL).json()
    assert octet("stop", "linear", "--reason", "enough").exit_code == 0
    assert octet("start", "linear", "--id", second["id"]).exit_code == 0
    assert octet("rollback", "linear", "int8", "--reason", "odd").exit_code == 0
    states = {view["name"]: view["state"] for view in client.get(URL).json()}
    assert states == {"first": "stopped", "second": "rolled_back"}
    timeline = client.get(f"{URL}/{second['id']}/timeline").json()
    assert timeline[-1]["detail"]["reason"] == "odd"
    assert client.get(f"{URL}/{first['id']}/timeline").json()[-1]["detail"]["reason"] == "enough"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "linear", "int8", "--weight", "int8"], "NAME=NUMBER"),
        (["create", "linear", "int8", "--weight", "fp16=3"], "no arm"),
        (["create", "linear", "int8", "--guardrail", "error_rate=much"], "not a number"),
        (["create", "linear", "int8", "--ramp", "fast"], "not a number"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], words: str) -> None:
    done = octet(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_the_servers_words_come_through(client: TestClient, registry: Database) -> None:
    assert isinstance(octet("status", "linear").exception, OctetError)
    done = octet("create", "linear", "bad")
    assert "too far off" in str(done.exception)


def test_status_says_what_is_known(client: TestClient, registry: Database, output: io.StringIO) -> None:
    octet("create", "linear", "int8", "--seed", "a seed", "--shadow", "int8=0.5", "--ramp", "0.5,1", "--start")
    (view,) = client.get(URL).json()
    keep_counts(registry, view["id"], 1500, faster=3, lost=0.3)
    other = Counts(("original", "int8"))
    for number in range(300):
        other.paired(
            "int8", control_ns=3000, variant_ns=1000 + number, agree=number > 2, cosine=0.99, max_abs_difference=0.1
        )
    other.labelled("int8", 40, 3, 1)
    unit = next(f"user-{number}" for number in range(1000) if SPLIT.arm(f"user-{number}") == "int8")
    other.answered(SPLIT.place(unit)._replace(variant="original"), 1_000_000)
    with registry.writing() as session:
        records.save_counts(session, view["id"], "two", other.to_json())
    client.post("/api/v1/outcomes", json=[{"unit": unit, "metric": "clicked", "value": 1}])
    assert octet("status", "linear").exit_code == 0
    text = output.getvalue()
    for words in (
        "int8-live of linear: running, 0.5 of all units, step 1 of 2",
        "original *",
        "clicked",
        "p99 ms",
        "int8: ",
        "shadow int8: 300 pairs, disagrees on 1.00%",
        "alone right on 1, alone wrong on 3 of 40 labelled",
        "no comparison can be trusted",
        "in more than one arm",
        "same cores",
    ):
        assert words in text, words


def test_status_of_what_has_just_begun_fits_a_narrow_terminal(
    client: TestClient,
    registry: Database,
) -> None:
    octet("create", "linear", "int8", "--shadow", "int8=0.5", "--start")
    (view,) = client.get(URL).json()
    narrow = Console(width=70, file=io.StringIO())
    narrow.print(experiment_tables.status(client.get(f"{URL}/{view['id']}").json(), 70))
    text = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert "inconclusive" in text
    assert "p99" not in text


def test_status_follows_until_the_experiment_has_ended(
    client: TestClient, registry: Database, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    octet("create", "linear", "int8", "--start")
    monkeypatch.setattr(client_commands, "console", Console(width=120, file=output, force_terminal=True))
    states = iter(["paused", "stopped"])

    def pause() -> None:
        octet({"paused": "pause", "stopped": "stop"}[next(states)], "linear")

    monkeypatch.setattr(commands, "_pause", pause)
    assert octet("status", "linear").exit_code == 0
    assert next(states, None) is None
    # What it shows last is the end, and not only what `octet ab stop` said of it.
    *_, last = output.getvalue().split("is stopped")
    assert "stopped" in last
