"""`octet keys create`, `list`, `revoke`, and `octet audit`: on the registry itself, for whoever runs the service."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from app.caller import CALLER, CLI, Scope
from app.cli import tables
from app.cli.registry import opened

if TYPE_CHECKING:
    from app.registry import Session

console = Console()

keys = typer.Typer(
    name="keys", help="Make, list and revoke API keys.", no_args_is_help=True, pretty_exceptions_enable=False
)

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SIZES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}


def create(
    name: Annotated[str, typer.Argument(help="Whose key it is: for the audit log, and for people.")],
    scope: Annotated[Scope, typer.Option(help="Each may do what those before it may.")] = Scope.infer,
    model: Annotated[str | None, typer.Option(help="Only for these models: a pattern, such as 'resnet*'.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 30d, 8w, or a date: 2027-01-31.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second, in each process.", min=0.001)] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once; else those of one second.", min=1)] = None,
    upload_quota: Annotated[str | None, typer.Option(help="Bytes that it may upload a day, such as 500MB.")] = None,
) -> None:
    """Make a key, and show it: the only time. From the first one on, all requests need a key."""
    from app.registry import keys as registry

    new = registry.NewKey(
        name,
        scope,
        model,
        _instant(expires) if expires is not None else None,
        rate,
        burst,
        _bytes(upload_quota) if upload_quota is not None else None,
    )
    with _registry() as session:
        key, shown = registry.create(session, new)
    # Alone on standard output, for scripts to take it from there.
    typer.echo(shown)
    typer.echo(f"key {key.id} of scope '{scope}' for '{name}'; it is not shown again", err=True)


def list_() -> None:
    """List all keys, also those that have expired or were revoked."""
    from app.registry import keys as registry

    with _registry() as session:
        rows = [
            {name: getattr(key, name) for name in _SHOWN} | {"state": registry.state_of(key)}
            for key in registry.listed(session)
        ]
    console.print(tables.keys(rows))


_SHOWN = ("id", "name", "scope", "models", "rate", "upload_quota_bytes", "expires_at", "last_used_at")


def revoke(key_id: Annotated[str, typer.Argument(help="Its id, or the key itself.")]) -> None:
    """Have a key let nobody in any more; gateways see that within a second."""
    from app.registry import keys as registry

    parts = registry.parts_of(key_id)
    with _registry() as session:
        key = registry.revoke(session, parts[0] if parts is not None else key_id)
        typer.echo(f"key {key.id} of '{key.name}' is revoked")


def audit(
    by: Annotated[str | None, typer.Option(help="Only what this key did, by name or id; or `local`, `cli`, …")] = None,
    noun: Annotated[str | None, typer.Option(help="Only of this kind: model, variant, job, experiment, key, …")] = None,
    name: Annotated[str | None, typer.Option(help="Only of what is called so, or begins so.")] = None,
    limit: Annotated[int, typer.Option(help="So many at most.", min=1, max=100_000)] = 50,
) -> None:
    """Show who changed what, the newest first."""
    from app.registry import audit as registry

    with _registry() as session:
        entries = registry.listed(session, by=by, noun=noun, name=name, limit=limit)
    console.print(tables.audit([vars(entry) for entry in entries]))


_COMMANDS: Mapping[str, Callable[..., None]] = {"create": create, "list": list_, "revoke": revoke}
for _name, _command in _COMMANDS.items():
    keys.command(_name)(_command)


@contextmanager
def _registry() -> "Iterator[Session]":
    """A transaction, as the operator. Raises `Unavailable` for a registry that was not migrated."""
    from app.registry import migrations

    who = CALLER.set(CLI)
    try:
        with opened() as (_, database):
            migrations.check_current(database)
            with database.writing() as session:
                yield session
    finally:
        CALLER.reset(who)


def _instant(text: str) -> datetime:
    """From now on, or a date in UTC."""
    lasting = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if lasting is not None:
        return datetime.now(UTC) + timedelta(seconds=int(lasting[1]) * _UNITS[lasting[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"'{text}' is neither a time from now, such as 12h, 30d or 8w, nor a date", param_hint="--expires"
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _bytes(text: str) -> int:
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if size is None:
        raise typer.BadParameter(f"'{text}' is no size, such as 500MB or 10GB", param_hint="--upload-quota")
    return int(float(size[1]) * _SIZES[size[2]])
