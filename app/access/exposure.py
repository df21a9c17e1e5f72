"""Who reaches a service without keys: its own machine, unless its operator insists."""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from app.errors import Conflict
from app.registry import Database, keys
from app.settings import Settings

NO_KEYS = (
    "No key was made yet: whoever reaches this machine's loopback interface may do all. `octet keys create` makes one."
)
INSECURE = "No key was made yet, and --insecure lets whoever reaches this port do all. `octet keys create` makes one."


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine alone."""
    if host.lower() in {"localhost", "localhost."}:
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def check(settings: Settings, database: Database) -> str | None:
    """What an operator should know of a service that is to start; None where there are keys.

    Raises `Conflict` where it would answer others than this machine without any.
    """
    with database.reading() as session:
        if keys.were_made(session):
            return None
    if is_loopback(settings.host):
        return NO_KEYS
    if settings.insecure:
        return INSECURE
    raise Conflict(
        f"without a key, the service answers on the loopback interface only, and not on {settings.host}: make one with"
        " `octet keys create NAME --scope admin`, or say --insecure (OCTET_INSECURE=true) where only those you trust"
        " reach it"
    )


@dataclass(frozen=True)
class Exposure:
    """What requests to a service without keys may call it.

    A page from elsewhere can have a browser reach its own machine: by a name that means 127.0.0.1 today, which `Host`
    betrays, or by a request across origins, which `Origin` does.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    any_host: bool

    @classmethod
    def of(cls, settings: Settings) -> "Exposure":
        """Where all may come, so may all names, unless some are listed."""
        return cls(settings.hosts, settings.origins, settings.insecure and not settings.hosts)

    def may_be_called(self, host: str) -> bool:
        """`host`: as in the header, with a port or without."""
        if self.any_host:
            return True
        name = _without_port(host.strip().lower())
        return name in self.hosts or is_loopback(name)

    def may_come_from(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may change something here: it is ours, or listed."""
        origin = origin.strip().lower()
        return origin in self.origins or origin.partition("://")[2] == host.strip().lower()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
