"""A gateway that has keys."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi.testclient import TestClient

from app.access.keyring import Keyring
from app.caller import Scope
from app.registry import Database, keys
from app.registry.keys import NewKey
from app.registry.tables import ApiKey
from app.settings import Settings


class Keyed:
    """Makes keys as `octet keys` does, beside a gateway, and sends requests with them."""

    def __init__(self, client: TestClient, settings: Settings) -> None:
        self.client = client
        self.database = Database(settings.registry_url)
        self.keyring: Keyring = client.app._app.state.services.keyring  # type: ignore[attr-defined]

    def make(self, scope: Scope | str, name: str = "", **bounds: Any) -> str:
        """A key, as its owner shows it, once the gateway knows it."""
        with self.database.writing() as session:
            _, shown = keys.create(session, NewKey(name or str(scope), Scope(scope), **bounds))
        self.keyring.look()
        return shown

    def kept(self, shown: str) -> ApiKey:
        with self.database.reading() as session:
            return keys.find(session, shown.split("_")[1])

    def send(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        headers: Mapping[str, str] = {"Authorization": f"Bearer {key}"} if key is not None else {}
        return self.client.request(method, path, headers={**headers, **options.pop("headers", {})}, **options)


@contextmanager
def keyed_by(client: TestClient, settings: Settings) -> Iterator[Keyed]:
    made = Keyed(client, settings)
    yield made
    made.database.close()
