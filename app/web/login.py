"""The page where a browser shows a key, and gets a cookie that stands for it."""

from datetime import UTC, datetime
from typing import Annotated, Protocol, cast

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.access.gate import COOKIE, session_of
from app.access.keyring import Keyring, Known
from app.caller import Scope
from app.registry import Database, keys
from app.registry.database import NOTHING
from app.settings import Settings
from app.web.rendering import environment

routes = APIRouter(include_in_schema=False)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class _Services(Protocol):
    settings: Settings
    database: Database
    keyring: Keyring


@routes.get("/login")
def show(request: Request, next_: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Who is signed in, or the form to do so."""
    services = _services(request)
    if not services.keyring.configured:
        return RedirectResponse("/", 303)
    token = session_of(request.headers.get("Cookie", ""))
    known = _signed_in(services, token) if token is not None else None
    return _page(known.caller.name if known is not None else None, next_)


@routes.post("/login")
def sign_in(
    request: Request, key: Annotated[str, Form()] = "", next_: Annotated[str, Form(alias="next")] = "/"
) -> Response:
    """Neither a page from elsewhere nor a script reads the cookie, and no other site has the browser send it."""
    services = _services(request)
    shown = key.strip()
    if services.keyring.may_be_new(shown):
        services.keyring.look()
    known = services.keyring.shown(shown)
    if known is None or known.caller.key is None:
        return _page(None, next_, "That is no key of this service, or one that was revoked or has expired.", 401)
    if not known.caller.scope.covers(Scope.read):
        return _page(None, next_, f"That key is of scope '{known.caller.scope}'; the pages need 'read'.", 403)
    with services.database.writing(changes=NOTHING) as session:
        token, ends_at = keys.sign_in(session, known.caller.key)
    response = RedirectResponse(_ours(next_), 303)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int((ends_at - datetime.now(UTC)).total_seconds()),
        httponly=True,
        samesite="strict",
        secure=services.settings.secure_cookies or request.url.scheme == "https",
    )
    return response


@routes.post("/logout")
def sign_out(request: Request) -> Response:
    """The cookie stands for nothing from now on, wherever it is."""
    services = _services(request)
    token = session_of(request.headers.get("Cookie", ""))
    if token is not None:
        with services.database.writing(changes=NOTHING) as session:
            keys.sign_out(session, token)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _services(request: Request) -> _Services:
    return cast(_Services, request.app.state.services)


def _signed_in(services: _Services, token: str) -> Known | None:
    with services.database.reading() as session:
        key_id = keys.signed_in(session, token)
    return services.keyring.of(key_id) if key_id is not None else None


def _page(name: str | None, next_: str, wrong: str | None = None, status: int = 200) -> HTMLResponse:
    page = environment.get_template("login.html").render(name=name, next=_ours(next_), wrong=wrong)
    return HTMLResponse(page, status, _HEADERS)


def _ours(next_: str) -> str:
    """A path of this service, whatever a link says."""
    is_path = next_.startswith("/") and not next_.startswith(("//", "/\\")) and next_.isprintable()
    return next_ if is_path else "/"
