"""`/api/v1/models/{model}/points`"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.parameters import ModelName
from app.api.services import Provided
from app.registry import models, points
from app.registry.tables import Point

routes = APIRouter(prefix="/models/{model}/points", tags=["points"])


class PointView(BaseModel):
    """A trade-off that a search found, measured on samples of the search; null is what was not measured."""

    id: str = Field(description="To be named as `options.point` of a job that makes a variant of it.")
    revision: int
    variant: str = Field(description="The label of the search's own variant.")
    job: str | None = Field(description="The search.")
    number: int = Field(description="Counts the points of one search, from 1.")
    chosen: bool = Field(description="The search's own variant is made of this one.")
    dataset: str | None
    options: dict[str, Any] = Field(description="Those of the search.")
    kept: list[str] = Field(description="Names of the nodes that stay in FP32.", examples=[["conv_stem", "classifier"]])
    accuracy: float | None
    agreement: float | None = Field(description="Share of samples whose top-1 is the original's.")
    sqnr_db: float | None
    latency_ms: float | None
    speedup: float | None
    size_bytes: int
    size_ratio: float
    created_at: datetime

    @classmethod
    def of(cls, point: Point) -> "PointView":
        names = cls.model_fields.keys() - {"revision", "job", "size_ratio"}
        return cls(
            revision=point.revision.number,
            job=point.job_id,
            size_ratio=point.size_bytes / point.revision.size_bytes,
            **{name: getattr(point, name) for name in names},
        )


@routes.get(
    "",
    operation_id="list_points",
    summary="Trade-offs that searches found",
    responses={404: {"description": "There is no such model, or it has no such revision."}},
)
def index(
    model: ModelName,
    services: Provided,
    revision: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only of this revision.")] = None,
) -> list[PointView]:
    """A job `mixed` tries which layers had better stay in FP32, and keeps the best trials as points. Any becomes a
    variant, without a new search, by a job `mixed` with its id as `options.point`.

    Of the newest search first; empty where none was made.
    """
    with services.database.reading() as session:
        found = models.find(session, model)
        only = models.find_revision(session, found, revision) if revision is not None else None
        return [PointView.of(point) for point in points.listed(session, found, only)]
