"""Who asks: known wherever something is done for them, as the name of their request is."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from app.errors import ModelForbidden


class Scope(StrEnum):
    """How much a key may do; each scope may do all that those before it may."""

    infer = "infer"
    read = "read"
    write = "write"
    admin = "admin"

    def covers(self, needed: "Scope") -> bool:
        return _RANK[self] >= _RANK[needed]


_RANK = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True)
class Caller:
    """`key`: the id of the key that was shown, where one was. `models`: a pattern of those it is for; None: all."""

    name: str
    scope: Scope = Scope.admin
    key: str | None = None
    models: str | None = None

    def may_use(self, model: str) -> bool:
        return self.models is None or fnmatchcase(model, self.models)

    def check_may_use(self, model: str) -> None:
        """Raises `ModelForbidden`, whether there is such a model or not."""
        if self.models is not None and not fnmatchcase(model, self.models):
            raise ModelForbidden(model, self.models)


#: Octet itself: threads that nobody asked.
OCTET = Caller("octet")
#: Whoever reaches the service while it has no keys.
LOCAL = Caller("local")
#: An operator on the machine, who needs no key.
CLI = Caller("cli")
#: Where no key is needed, and none was looked at.
ANYONE = Caller("anyone", Scope.infer)

CALLER: ContextVar[Caller] = ContextVar("caller", default=OCTET)
