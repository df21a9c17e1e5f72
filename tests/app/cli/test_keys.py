"""Keys made and looked at on the machine, by whoever runs the service."""

import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from app import cli
from app.registry import Database
from app.registry import keys as registry
from app.registry.tables import ApiKey
from app.settings import Settings
from tests import registries

# `app.cli.keys` is the group of commands, which has the name of its module.
keys = importlib.import_module("app.cli.keys")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OCTET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    settings = Settings()
    settings.make_folders()
    return settings


@pytest.fixture
def migrated(home: Settings) -> Settings:
    registries.migrate(home.registry_url)
    return home


def octet(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def kept(settings: Settings) -> list[ApiKey]:
    database = Database(settings.registry_url)
    with database.reading() as session:
        rows = registry.listed(session)
    database.close()
    return rows


def test_a_key_is_shown_alone_on_standard_output(migrated: Settings) -> None:
    made = octet("keys", "create", "shop")
    assert made.exit_code == 0, made.output
    (shown,) = made.stdout.splitlines()
    (row,) = kept(migrated)
    assert (row.name, row.scope, row.models, row.expires_at, row.rate, row.upload_quota_bytes) == (
        ("shop", "infer", None, None, None, None)
    )
    assert registry.is_of(shown.split("_")[2], row.salt, row.digest)
    assert row.id in made.stderr
    assert shown not in made.stderr


def test_what_bounds_a_key_is_said_when_it_is_made(migrated: Settings) -> None:
    bounds = ["--model", "res*", "--expires", "30d", "--rate", "2.5", "--burst", "7", "--upload-quota", "1.5GB"]
    assert octet("keys", "create", "ci", "--scope", "write", *bounds).exit_code == 0
    (row,) = kept(migrated)
    assert (row.scope, row.models, row.rate, row.burst, row.upload_quota_bytes) == ("write", "res*", 2.5, 7, 1.5e9)
    assert row.expires_at is not None
    assert abs(row.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)


def test_keys_are_listed_and_revoked_without_their_secrets(migrated: Settings) -> None:
    shown = octet("keys", "create", "shop").stdout.strip()
    key_id, secret = registry.parts_of(shown) or ("", "")
    for name in (key_id, shown):
        revoked = octet("keys", "revoke", name)
        assert (revoked.exit_code, secret in revoked.output) == (0, False)
    (row,) = kept(migrated)
    assert row.revoked_at is not None


def test_the_tables_say_what_there_is(migrated: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    shown = octet("keys", "create", "shop", "--model", "res*", "--rate", "5").stdout.strip()
    keys.list_()
    listed = capsys.readouterr().out
    for word in (shown.split("_")[1], "shop", "res*", "active", "5/s"):
        assert word in listed
    assert shown.split("_")[2] not in listed
    keys.audit(None, None, None, 50)
    log = capsys.readouterr().out
    for word in ("cli", "created", f"key {shown.split('_')[1]} shop"):
        assert word in log


def test_a_registry_that_was_not_migrated_is_said_so(home: Settings) -> None:
    assert "octet migrate" in str(octet("keys", "create", "x").exception)


@pytest.mark.parametrize(
    ("option", "value"), [("--expires", "soon"), ("--expires", "-3d"), ("--upload-quota", "big"), ("--scope", "root")]
)
def test_what_is_no_bound_is_refused(migrated: Settings, option: str, value: str) -> None:
    assert octet("keys", "create", "x", option, value).exit_code == 2
    assert kept(migrated) == []


def test_times_and_sizes_are_written_as_people_do() -> None:
    assert keys._instant("2027-01-31") == datetime(2027, 1, 31, tzinfo=UTC)
    assert keys._instant("2027-01-31T12:00+02:00") == datetime(2027, 1, 31, 10, tzinfo=UTC)
    assert [keys._bytes(text) for text in ("7", "2k", "500MB", "10 gb", "1T")] == [7, 2000, 5e8, 10**10, 10**12]
    with pytest.raises(typer.BadParameter):
        keys._bytes("-1")


@pytest.mark.parametrize("by_environment", [False, True])
def test_client_commands_show_the_key(monkeypatch: pytest.MonkeyPatch, by_environment: bool) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("X-API-Key"))
        return httpx.Response(200, json=[])

    class Client(httpx.Client):
        def __init__(self, **options: object) -> None:
            super().__init__(transport=httpx.MockTransport(answer), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx, "Client", Client)
    if by_environment:
        monkeypatch.setenv("OCTET_API_KEY", "octet_k")
        octet("jobs")
    else:
        octet("--api-key", "octet_k", "jobs")
        octet("jobs")
    assert seen == ["octet_k"] if by_environment else ["octet_k", None]


def test_a_service_that_others_would_reach_does_not_start_without_keys(migrated: Settings) -> None:
    refused = octet("gateway", "--host", "0.0.0.0", "--port", "0", "--grpc-port", "0")
    assert "--insecure" in str(refused.exception)
    served = octet("serve", "--host", "0.0.0.0", "--port", "0", "--grpc-port", "0")
    assert "octet keys create" in str(served.exception)
