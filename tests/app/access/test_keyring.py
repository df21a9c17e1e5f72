import hmac
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.access.keyring import Keyring
from app.caller import Scope
from app.registry import Database, OperationalError, audit, keys
from app.registry.keys import NewKey
from app.registry.tables import ApiKey, now


def made(database: Database, **bounds: Any) -> str:
    with database.writing() as session:
        return keys.create(session, NewKey("mine", Scope.read, **bounds))[1]


def seen(database: Database, clock: Any = None) -> Keyring:
    keyring = Keyring(database, clock=clock) if clock is not None else Keyring(database)
    keyring.look()
    return keyring


def test_a_service_has_keys_from_the_first_on_and_for_good(database: Database) -> None:
    keyring = seen(database)
    assert not keyring.configured
    key = made(database)
    keyring.look()
    assert keyring.configured
    with database.writing() as session:
        keys.revoke(session, key.split("_")[1])
    keyring.look()
    assert keyring.shown(key) is None
    assert keyring.configured
    assert seen(database).configured


def test_a_key_lets_in_as_who_it_is(database: Database) -> None:
    key = made(database, models="res*")
    known = seen(database).shown(key)
    assert known is not None
    assert known.caller.name == "mine"
    assert (known.caller.scope, known.caller.key, known.caller.models) == (Scope.read, key.split("_")[1], "res*")


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key.upper(),
        lambda key: key.replace("octet", "octer"),
        lambda key: "octet_" + "a" * 12 + "_" + key.split("_")[2],
        lambda key: key.split("_")[1],
        lambda key: key.split("_")[2],
        lambda _: "",
        lambda _: "octet_",
        lambda _: "octet__",
        lambda _: "octet_" + "ü" * 12 + "_\udcff",
        lambda key: key + "0" * 10_000,
    ],
)
def test_nothing_else_lets_in(sqlite_database: Database, change: Any) -> None:
    key = made(sqlite_database)
    keyring = seen(sqlite_database)
    assert keyring.shown(change(key)) is None
    assert keyring.shown(key) is not None


def test_of_the_secret_the_registry_has_a_salted_hash_alone(database: Database) -> None:
    first, second = made(database), made(database)
    with database.reading() as session:
        rows = [keys.find(session, key.split("_")[1]) for key in (first, second)]
        for row, key in zip(rows, (first, second), strict=True):
            secret = key.split("_")[2]
            assert len(bytes.fromhex(secret)) == 24
            kept = repr([value for name, value in vars(row).items() if name != "_sa_instance_state"])
            assert secret not in kept
            assert bytes.fromhex(secret) not in (row.salt, row.digest)
            assert keys.is_of(secret, row.salt, row.digest)
        assert rows[0].salt != rows[1].salt


def test_hashes_are_compared_in_constant_time_and_for_keys_that_are_not_there_too(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    as_it_is = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return as_it_is(a, b)

    key = made(sqlite_database)
    keyring = seen(sqlite_database)
    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    for shown in (key, key[:-1] + "x", "octet_" + "a" * 12 + "_" + "0" * 48):
        keyring.shown(shown)
    assert [(len(a), len(b)) for a, b in compared] == [(32, 32)] * 3


def test_a_key_ends_when_it_expires(database: Database) -> None:
    at = now()
    key = made(database, expires_at=at + timedelta(hours=1))
    clock = at.timestamp()
    keyring = seen(database, lambda: clock)
    clock += 3599
    assert keyring.shown(key) is not None
    clock += 1.5
    assert keyring.shown(key) is None
    assert keyring.of(key.split("_")[1]) is None


def test_while_the_registry_is_away_the_keys_that_were_known_let_in(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made(database)
    keyring = seen(database)

    def away() -> Any:
        raise OperationalError("SELECT", None, Exception())

    monkeypatch.setattr(database, "reading", away)
    monkeypatch.setattr(database, "writing", away)
    keyring._looks.once()
    assert keyring.shown(key) is not None
    assert keyring.shown(key[:-1] + "x") is None


def test_without_a_registry_nobody_is_let_in_at_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise OperationalError("SELECT", None, Exception())

    monkeypatch.setattr(database, "reading", away)
    with pytest.raises(OperationalError):
        Keyring(database).start()


def test_when_a_key_was_used_last_is_kept_and_costs_nobody_a_write(database: Database) -> None:
    key, unused = made(database), made(database)
    keyring, commits = seen(database), database.commits
    keyring.shown(key)
    with database.reading() as session:
        assert keys.find(session, key.split("_")[1]).last_used_at is None
    keyring.note_used()
    assert database.commits == commits
    with database.reading() as session:
        used = keys.find(session, key.split("_")[1]).last_used_at
        assert used is not None
        assert now() - used < timedelta(minutes=1)
        assert keys.find(session, unused.split("_")[1]).last_used_at is None


def test_a_rate_is_of_the_key_and_goes_on_when_others_are_made(database: Database) -> None:
    key = made(database, rate=0.001, burst=1)
    keyring = seen(database)
    known = keyring.shown(key)
    assert known is not None
    assert known.bucket is not None
    assert known.bucket.take() == 0
    made(database)
    keyring.look()
    again = keyring.shown(key)
    assert again is not None
    assert again.bucket is known.bucket
    assert again.bucket.take() > 0


def test_the_audit_log_is_kept_for_as_long_as_the_setting_says(database: Database) -> None:
    made(database)
    with database.writing() as session:
        session.execute(update(audit.AuditEntry).values(at=now() - timedelta(days=31)))
        session.execute(update(ApiKey).values(name="kept"))
    made(database)
    Keyring(database, audit_days=0)._forget_audit()
    Keyring(database, audit_days=32)._forget_audit()
    with database.reading() as session:
        assert len(audit.listed(session)) == 2
    Keyring(database, audit_days=30)._forget_audit()
    with database.reading() as session:
        assert len(audit.listed(session)) == 1
