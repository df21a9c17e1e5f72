"""`/api/v1/keys`"""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.bodies import Moment, Strict
from app.api.parameters import KeyId
from app.api.services import Provided
from app.caller import Scope
from app.errors import Forbidden
from app.registry import keys
from app.registry.database import NOTHING
from app.registry.tables import ApiKey

routes = APIRouter(prefix="/keys", tags=["keys"])


class KeyRequest(Strict):
    """What a key is to be; what is left out does not bound it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "shop", "scope": "infer", "models": "resnet*", "rate": 100}]},
    )

    name: str = Field(min_length=1, max_length=63, description="Whose it is: for the audit log, and for people.")
    scope: Scope = Field(
        strict=False, description="Each may do what those before it may: `infer`, `read`, `write`, `admin`."
    )
    models: str | None = Field(default=None, max_length=255, description="Of which models, as a shell's pattern.")
    expires_at: Moment | None = None
    rate: float | None = Field(default=None, gt=0, le=1e6, description="Requests a second, in each gateway process.")
    burst: int | None = Field(default=None, ge=1, le=1_000_000, description="At once. Default: those of one second.")
    upload_quota_bytes: int | None = Field(default=None, ge=0, le=2**62, description="Bytes a day, in UTC.")


class KeyView(BaseModel):
    """A key, without its secret."""

    id: str
    name: str
    scope: Scope
    models: str | None
    state: Literal["active", "expired", "revoked"]
    rate: float | None
    burst: int | None
    upload_quota_bytes: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To within a minute.")

    @classmethod
    def of(cls, key: ApiKey) -> "KeyView":
        names = cls.model_fields.keys() - {"state", "scope"}
        return cls(state=keys.state_of(key), scope=Scope(key.scope), **{name: getattr(key, name) for name in names})


class NewKeyView(KeyView):
    """The key, and the one time that it is shown."""

    key: str = Field(description="To be sent as `Authorization: Bearer` or `X-API-Key`; nothing tells it again.")


@routes.post(
    "",
    status_code=201,
    operation_id="create_key",
    summary="Make a key",
    responses={201: {"description": "The key, with its secret."}},
)
def create(wanted: KeyRequest, response: Response, services: Provided) -> NewKeyView:
    """The first is made on the machine, with `octet keys create`: from then on, all requests need one."""
    if not services.keyring.configured:
        raise Forbidden("the first key is made on the service's machine: `octet keys create NAME --scope admin`")
    with services.database.writing(changes=NOTHING) as session:
        key, shown = keys.create(session, keys.NewKey(**dict(wanted)))
        view = NewKeyView(**KeyView.of(key).model_dump(), key=shown)
    services.keyring.look()
    response.headers["Location"] = f"/api/v1/keys/{view.id}"
    response.headers["Cache-Control"] = "no-store"
    return view


@routes.get("", operation_id="list_keys", summary="All keys")
def index(services: Provided) -> list[KeyView]:
    """Also those that have expired or were revoked."""
    with services.database.reading() as session:
        return [KeyView.of(key) for key in keys.listed(session)]


@routes.get(
    "/{key_id}",
    operation_id="get_key",
    summary="One key",
    responses={404: {"description": "There is no such key."}},
)
def show(key_id: KeyId, services: Provided) -> KeyView:
    """Whose it is, what it may do, and when it was last used; never its secret."""
    with services.database.reading() as session:
        return KeyView.of(keys.find(session, key_id))


@routes.delete(
    "/{key_id}",
    operation_id="revoke_key",
    summary="Revoke a key",
    responses={404: {"description": "There is no such key."}},
)
def revoke(key_id: KeyId, services: Provided) -> KeyView:
    """All gateways refuse it within a second, and the browsers that signed in with it. Doing it twice is the same."""
    with services.database.writing(changes=NOTHING) as session:
        view = KeyView.of(keys.revoke(session, key_id))
    services.keyring.look()
    return view
