"""Whether a request may pass, and on whose behalf. Over HTTP and gRPC alike."""

import math
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from anyio import to_thread

from app.access import needs
from app.access.exposure import Exposure
from app.access.keyring import Keyring, Known
from app.access.needs import Need
from app.caller import ANYONE, LOCAL, Caller
from app.errors import Forbidden, LengthRequired, RateExceeded, ScopeTooSmall, Unauthenticated
from app.registry import Database, OperationalError, audit, keys
from app.registry.database import NOTHING

#: What a browser that signed in shows.
COOKIE = "octet_session"

#: Host headers that are known to be allowed; of more, each is checked anew.
_MOST_HOSTS = 256

_LOOKS = {"GET", "HEAD", "OPTIONS"}
_SHOW_ONE = "this needs a key: send it as 'Authorization: Bearer octet_…' or 'X-API-Key'; `octet keys create` makes one"
_WRONG = "the key shown is not one of this service's, was revoked or has expired"

Headers = Iterable[tuple[bytes, bytes]]


class Admission(NamedTuple):
    """Who came in. `upload`: the day and the bytes that were counted towards the key's quota."""

    caller: Caller
    upload: tuple[str, int] | None = None


_LOCAL = Admission(LOCAL)


class Gate:
    """For the event loop. Inference is let in without a wait, by what is in memory."""

    def __init__(self, keyring: Keyring, database: Database, exposure: Exposure, *, open_metrics: bool = False) -> None:
        self._keyring = keyring
        self._database = database
        self._exposure = exposure
        self._open_metrics = open_metrics
        # `Host` headers that inference was asked by and that may be used, for as long as there are no keys.
        self._allowed_hosts: set[bytes] = set()

    async def admit_inference(self, headers: Mapping[bytes, bytes], model: str) -> Caller:
        """Who asks for an inference of `model`, which every scope may.

        Raises `Unauthenticated`, `Forbidden` and its kin, `RateExceeded`.
        """
        if not self._keyring.configured:
            host = headers.get(b"host", b"")
            if host not in self._allowed_hosts or b"origin" in headers:
                self._check_is_ours("POST", _Shown(headers))
                if len(self._allowed_hosts) < _MOST_HOSTS:
                    self._allowed_hosts.add(host)
            return LOCAL
        shown = _Shown(headers)
        known = self._known(shown) or await self._known_now(shown)
        self._check_from("POST", shown)
        if known.caller.models is not None:
            known.caller.check_may_use(model.partition("@")[0])
        _check_rate(known)
        return known.caller

    async def admit(self, method: str, path: str, headers: Headers) -> Admission:
        """Who asks. Raises `Unauthenticated`, `Forbidden` and its kin, `TooMuch` and its kin, `LengthRequired`."""
        shown = _Shown(dict(headers))
        if not self._keyring.configured:
            self._check_is_ours(method, shown)
            return _LOCAL
        need = needs.need_of(method, path)
        if self._is_open(need) if need is not None else needs.is_open_path(path):
            # Signing in over another origin would be a trick, too.
            self._check_from(method, shown)
            return Admission(ANYONE)
        known = self._known(shown) or await self._known_now(shown)
        self._check_from(method, shown)
        if need is None:
            return Admission(known.caller)
        await self._check_scope(known.caller, need)
        _check_models(known.caller, need.named)
        _check_rate(known)
        return Admission(known.caller, await self._taken(known, need, shown))

    async def admit_call(self, name: str, metadata: Mapping[str, str | bytes]) -> Caller:
        """Who makes the gRPC call `name`. Each request of a stream is to be counted by `count`."""
        if not self._keyring.configured:
            return LOCAL
        scope = needs.GRPC[name]
        if scope is needs.OPEN:
            return ANYONE
        shown = _Shown(
            {
                header: value if isinstance(value, bytes) else value.encode()
                for header in (b"x-api-key", b"authorization")
                if (value := metadata.get(header.decode())) is not None
            }
        )
        known = self._known(shown) or await self._known_now(shown)
        if not known.caller.scope.covers(scope):
            raise ScopeTooSmall(scope, known.caller.scope)
        if name != "ModelStreamInfer":
            _check_rate(known)
        return known.caller

    def count(self, caller: Caller) -> None:
        """One more request of a stream. Raises `RateExceeded`, and `Unauthenticated` for a key that ended meanwhile."""
        if caller.key is not None:
            known = self._keyring.of(caller.key)
            if known is None:
                raise Unauthenticated(_WRONG)
            _check_rate(known)

    async def answered(self, admission: Admission, status: int) -> None:
        """To be called with what came of the request: of an upload that was refused, nothing counts."""
        if admission.upload is None or status < 400 or admission.caller.key is None:
            return
        try:
            await to_thread.run_sync(self._give_back, admission.caller.key, *admission.upload)
        except OperationalError:
            # It counts until midnight.
            return

    # Who

    def _known(self, shown: "_Shown") -> Known | None:
        return self._keyring.shown(shown.key) if shown.key is not None else None

    async def _known_now(self, shown: "_Shown") -> Known:
        """Where a glance was not enough: a key that was made a moment ago, or a browser that signed in."""
        known: Known | None = None
        if shown.key is not None:
            if self._keyring.may_be_new(shown.key):
                await to_thread.run_sync(self._keyring.look)
                known = self._keyring.shown(shown.key)
        elif shown.cookie is not None:
            key_id = await to_thread.run_sync(self._signed_in, shown.cookie)
            known = self._keyring.of(key_id) if key_id is not None else None
        if known is None:
            raise Unauthenticated(_SHOW_ONE if shown.key is None else _WRONG)
        return known

    def _signed_in(self, token: str) -> str | None:
        with self._database.reading() as session:
            return keys.signed_in(session, token)

    # Whether

    def _is_open(self, need: Need) -> bool:
        return need.scope is needs.OPEN or (self._open_metrics and need.path == "/metrics")

    def _check_is_ours(self, method: str, shown: "_Shown") -> None:
        if not self._exposure.may_be_called(shown.host):
            raise Forbidden(
                "while it has no keys, the service answers to localhost, loopback addresses and the names in"
                " OCTET_ALLOWED_HOSTS only"
            )
        self._check_origin(method, shown)

    def _check_from(self, method: str, shown: "_Shown") -> None:
        # What a browser sends along by itself, a page from elsewhere may have had it send; a key, it cannot.
        if shown.key is None:
            self._check_origin(method, shown)

    def _check_origin(self, method: str, shown: "_Shown") -> None:
        if method in _LOOKS or shown.origin is None or self._exposure.may_come_from(shown.origin, shown.host):
            return
        raise Forbidden("pages of another origin may not change anything here; OCTET_CORS_ORIGINS lists those that may")

    async def _check_scope(self, caller: Caller, need: Need) -> None:
        if need.scope is None or caller.scope.covers(need.scope):
            return
        if need.method not in _LOOKS:
            await to_thread.run_sync(self._note_refused, caller, need)
        raise ScopeTooSmall(need.scope, caller.scope)

    def _note_refused(self, caller: Caller, need: Need) -> None:
        what = " ".join((need.path, *need.named.values()))
        with self._database.writing(changes=NOTHING) as session:
            audit.record(session, need.method, "path", what, caller=caller, outcome=audit.REFUSED)

    # Uploads

    async def _taken(self, known: Known, need: Need, shown: "_Shown") -> tuple[str, int] | None:
        if not known.has_quota or (need.method, need.path) not in needs.UPLOADS:
            return None
        if shown.length is None:
            raise LengthRequired("uploads of a key with a quota need a Content-Length")
        assert known.caller.key is not None
        day = await to_thread.run_sync(self._take, known.caller.key, shown.length)
        return day, shown.length

    def _take(self, key_id: str, size_bytes: int) -> str:
        with self._database.writing(changes=NOTHING) as session:
            return keys.take_upload(session, key_id, size_bytes)

    def _give_back(self, key_id: str, day: str, size_bytes: int) -> None:
        with self._database.writing(changes=NOTHING) as session:
            keys.give_upload_back(session, key_id, day, size_bytes)


def _check_models(caller: Caller, named: Mapping[str, str]) -> None:
    if caller.models is not None and "model" in named:
        caller.check_may_use(named["model"].partition("@")[0])


def _check_rate(known: Known) -> None:
    bucket = known.bucket
    if bucket is not None and (wait_s := bucket.take()):
        raise RateExceeded(bucket.rate, wait_s)


class _Shown:
    """What of a request's headers decides. `X-API-Key` counts before `Authorization`."""

    __slots__ = ("_headers", "key")

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        self._headers = headers
        own = self._headers.get(b"x-api-key")
        self.key = own.decode("latin-1").strip() if own is not None else self._bearer()

    @property
    def host(self) -> str:
        return self._headers.get(b"host", b"").decode("latin-1")

    @property
    def origin(self) -> str | None:
        origin = self._headers.get(b"origin")
        return None if origin is None else origin.decode("latin-1")

    @property
    def cookie(self) -> str | None:
        cookies = self._headers.get(b"cookie")
        return None if cookies is None else session_of(cookies.decode("latin-1"))

    @property
    def length(self) -> int | None:
        length = self._headers.get(b"content-length", b"")
        return int(length) if length.isdigit() and len(length) < 20 else None

    def _bearer(self) -> str | None:
        scheme, _, key = self._headers.get(b"authorization", b"").partition(b" ")
        return key.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


def session_of(cookies: str) -> str | None:
    """What the browser shows of a session, among its other cookies."""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None else None


def retry_after(seconds: float) -> str:
    """As the header says it."""
    return str(max(1, math.ceil(seconds)))
