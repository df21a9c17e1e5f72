"""`/models/{model}`: its variants compared, and what to make of that. `/models/{model}/quantize`: making more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response

from app.contracts import methods
from app.contracts.figures import further_metrics
from app.errors import OctetError
from app.registry import Session, comparison, datasets, jobs, models, variants
from app.registry.tables import Model, Revision
from app.web.advice import advice
from app.web.answers import page, page_routes, provided
from app.web.frontier import tradeoff
from app.web.jobs import JobLine
from app.web.options import groups

routes = page_routes()

_JOBS_SHOWN = 12

Number = Annotated[int, Query(ge=1, le=2**31 - 1)]


@routes.get("/models/{model}")
def show(model: str, request: Request, revision: Number | None = None) -> Response:
    with provided(request).database.reading() as session:
        found = models.find(session, model)
        shown = models.find_revision(session, found, revision)
        rows = comparison.compared(found, variants.listed(session, found))
        listed = [JobLine.of(job) for job in jobs.listed(session, model=model, limit=_JOBS_SHOWN)]
        of_it = [row for row in rows if row.revision == shown.number]
        return page(
            "pages/model.html",
            place="Models",
            model=found.name,
            revision=shown,
            revisions=sorted(found.revisions, key=lambda each: -each.number),
            rows=of_it,
            further={metric.name: metric.label for row in of_it for metric in further_metrics(row.metrics)}.items(),
            default=next((row for row in rows if row.default), None),
            advice=advice(of_it, under_way=any(job.is_live for job in listed)),
            tradeoff=tradeoff(of_it),
            jobs=listed,
        )


@dataclass(frozen=True)
class MethodChoice:
    """A method; `refusal` says why it does nothing for this model, where it does not."""

    method: methods.Method
    refusal: str


@routes.get("/models/{model}/quantize")
def quantize(
    model: str, request: Request, revision: Number | None = None, method: Annotated[str, Query(max_length=32)] = ""
) -> Response:
    with provided(request).database.reading() as session:
        found = models.find(session, model)
        wanted = models.find_revision(session, found, revision)
        choices = [MethodChoice(each, _refusal(each, wanted)) for each in methods.OFFERED.values()]
        able = [choice.method.name for choice in choices if not choice.refusal]
        return page(
            "pages/quantize.html",
            place="Models",
            model=found.name,
            revision=wanted,
            choices=choices,
            chosen=method if method in able else _first(session, found, wanted, able),
            groups={name: groups(each) for name, each in methods.OFFERED.items()},
            datasets=[dataset.name for dataset in datasets.listed(session)],
        )


def _refusal(method: methods.Method, revision: Revision) -> str:
    try:
        methods.check_applicable(method, revision.operators, revision.float_bytes, revision.operator_nodes)
    except OctetError as error:
        return error.detail
    return ""


def _first(session: Session, model: Model, revision: Revision, able: Sequence[str]) -> str:
    """What was not made of this revision yet, what promises most first."""
    made = {row.method for row in variants.listed(session, model) if row.revision_id == revision.id}
    has_data = bool(datasets.listed(session))
    usable = [name for name in able if has_data or not methods.OFFERED[name].needs_dataset]
    proposed = sorted(usable, key=lambda name: -methods.OFFERED[name].promise)
    return next((name for name in proposed if name not in made), usable[-1])
