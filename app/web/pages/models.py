"""`/`: all models, and uploading one."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from app.contracts.methods import METHODS
from app.contracts.outcome import REJECTED
from app.registry import datasets
from app.registry.models import ORIGINAL
from app.registry.overview import Overview, Standing, overview
from app.registry.recommendation import recommendation
from app.web.answers import page, page_routes, provided

routes = page_routes()


@dataclass(frozen=True)
class ModelLine:
    """A model; `original` and `best` are of its newest revision, and `best` is None where the original is.

    `faster`: the best one is so beyond noise, and not only smaller.
    """

    model: Overview
    original: Standing
    best: Standing | None
    faster: bool
    made: int
    rejected: int

    @classmethod
    def of(cls, model: Overview) -> "ModelLine":
        found = recommendation(model.standings)
        made = [row for row in model.standings if row.variant != ORIGINAL]
        return cls(
            model=model,
            original=next(row for row in model.standings if row.variant == ORIGINAL),
            best=found.row if found else None,
            faster=found is not None and found.faster,
            made=len(made),
            rejected=sum(row.verdict == REJECTED for row in made),
        )


@routes.get("/")
def index(request: Request) -> Response:
    with provided(request).database.reading() as session:
        lines = [ModelLine.of(model) for model in overview(session)]
        names = [dataset.name for dataset in datasets.listed(session)]
    return _page(lines, names)


def _page(lines: Sequence[ModelLine], names: Sequence[str]) -> Response:
    return page(
        "pages/models.html",
        place="Models",
        lines=lines,
        datasets=names,
        methods=list(METHODS.values()),
    )
