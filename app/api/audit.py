"""`/api/v1/audit`"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.api.bodies import Moment
from app.api.services import Provided
from app.registry import audit
from app.registry.tables import AuditEntry

routes = APIRouter(prefix="/audit", tags=["audit"])


class AuditView(BaseModel):
    """A change, and who made it."""

    id: int
    at: datetime
    by: str = Field(
        description="The name of a key; `local` for requests to a service without keys, `cli` for an operator,"
        " `worker`, `guardrail` and `ramp` for Octet's own doing."
    )
    key_id: str | None
    verb: str = Field(examples=["made default"])
    noun: str = Field(examples=["variant"])
    name: str = Field(examples=["resnet20@int8"])
    request_id: str | None = Field(description="As in `X-Request-Id`, and in the logs.")
    outcome: str = Field(description="`done`, or `refused` where the key's scope was too small.")

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditView":
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})


@routes.get(
    "",
    operation_id="list_changes",
    summary="Who changed what, the newest first",
    responses={200: {"headers": {"Link": {"schema": {"type": "string"}}}}},
)
def index(
    response: Response,
    services: Provided,
    by: Annotated[str | None, Query(max_length=63, description="A name, or a key's id.")] = None,
    noun: Annotated[str | None, Query(max_length=32, description="`model`, `variant`, `job`, `key`, …")] = None,
    name: Annotated[str | None, Query(max_length=255, description="What the name begins with.")] = None,
    since: Annotated[Moment | None, Query(description="Only entries from then on.")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only entries before that one.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries of one page.")] = 100,
) -> list[AuditView]:
    """A page of at most `limit`; the address of the next is in `Link`, where there is one."""
    with services.database.reading() as session:
        entries = audit.listed(session, by=by, noun=noun, name=name, since=since, before_id=before, limit=limit)
        views = [AuditView.of(entry) for entry in entries]
    if len(views) == limit:
        response.headers["Link"] = f'<?before={views[-1].id}&limit={limit}>; rel="next"'
    return views
