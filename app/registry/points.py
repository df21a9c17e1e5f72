"""Points: the trade-offs that a search found, of which any can be made into a variant without a new search."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.contracts.figures import PointFigures
from app.contracts.methods import Method
from app.errors import Invalid, UnknownPoint
from app.registry.names import is_valid
from app.registry.tables import Job, Model, Point, Revision, now


def record(session: Session, job: Job, found: Sequence[PointFigures]) -> list[Point]:
    """Keep what the search of `job` found, numbered from 1 in its order."""
    together = now()
    points = [
        Point(
            id=uuid.uuid4().hex,
            model_id=job.model_id,
            revision_id=job.revision_id,
            job_id=job.id,
            variant=job.label,
            number=number,
            dataset=job.dataset_name,
            options=job.options,
            created_at=together,
            **figures.model_dump(),
        )
        for number, figures in enumerate(found, start=1)
    ]
    session.add_all(points)
    return points


def listed(session: Session, model: Model, revision: Revision | None = None) -> list[Point]:
    """The points of `model`, or of one revision of it: those of the newest search first, each search in its order."""
    query = (
        select(Point)
        .where(Point.model_id == model.id)
        .options(joinedload(Point.revision))
        .order_by(Point.created_at.desc(), Point.job_id, Point.number)
    )
    return list(session.scalars(query if revision is None else query.where(Point.revision_id == revision.id)))


def find(session: Session, point_id: str) -> Point:
    """The point; raises `UnknownPoint`."""
    point = session.get(Point, point_id) if is_valid(point_id) else None
    if point is None:
        raise UnknownPoint(point_id[:80])
    return point


def find_of(session: Session, revision: Revision, point_id: str) -> Point:
    """A point of `revision`; raises `UnknownPoint`, or `Invalid` for one of another model or revision."""
    point = find(session, point_id)
    if point.revision_id != revision.id:
        raise Invalid(
            f"point '{point.id}' is of revision {point.revision.number} of '{point.revision.model.name}', and this job"
            f" is for revision {revision.number} of '{revision.model.name}'; a point fits only what it was found on",
            field="options.point",
        )
    return point


def options_for(point: Point, method: Method, named: dict[str, Any]) -> dict[str, Any]:
    """The options of a job that makes `point`: those that the client `named`, and the search's for the others."""
    return {name: value for name, value in point.options.items() if name in method.options.model_fields} | named


def label_of(point: Point) -> str:
    """What a variant made of `point` is called when nobody says otherwise."""
    return f"{point.variant}-p{point.number}"
