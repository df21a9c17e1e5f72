"""`/experiments`, `/models/{model}/experiments`, `/experiments/{id}`: which variant is good enough, on live traffic."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from app.registry import Session, comparison, experiments, live, models, variants
from app.registry.comparison import Row
from app.registry.recommendation import recommendation
from app.registry.tables import Experiment, Model
from app.web.answers import page, page_routes, provided
from app.web.experiments import WIDTH, WORDS, ExperimentLine, Happening, whiskers

routes = page_routes()

_SHOWN = 200
#: Tells the parts of a page that follow an experiment that there is nothing more to follow.
_ENDED = {"HX-Trigger": "ended"}
UNIT_SOURCES = ("header:X-Unit-Id", "param:unit_id", "api_key")


@dataclass(frozen=True)
class Candidate:
    """A model that has variants to compare; `ready` says how many may serve, `live` is its experiment's id."""

    model: str
    ready: int
    live: str | None


@routes.get("/experiments")
def index(request: Request) -> Response:
    with provided(request).database.reading() as session:
        lines = [ExperimentLine.of(each) for each in experiments.listed(session, limit=_SHOWN)]
        candidates = [_candidate(session, model) for model in models.listed(session)]
    return page(
        "pages/experiments.html",
        place="Experiments",
        lines=lines,
        candidates=[each for each in candidates if each.ready > 1],
        most=_SHOWN,
    )


def _candidate(session: Session, model: Model) -> Candidate:
    newest = max(model.revisions, key=lambda revision: revision.number)
    rows = [row for row in variants.listed(session, model) if row.revision_id == newest.id]
    running = live.experiment_of(session, model)
    return Candidate(model.name, sum(variants.may_serve(row) for row in rows), running.id if running else None)


@routes.get("/models/{model}/experiments")
def of_model(model: str, request: Request) -> Response:
    with provided(request).database.reading() as session:
        found = models.find(session, model)
        newest = models.find_revision(session, found)
        lines = [ExperimentLine.of(each) for each in experiments.listed(session, found)]
        rows = comparison.compared(found, variants.listed(session, found))
    serving = [row for row in rows if row.revision == newest.number and row.may_serve]
    control = next((row for row in serving if row.default), serving[0])
    return page(
        "pages/model_experiments.html",
        place="Models",
        model=model,
        revision=newest.number,
        lines=lines,
        running=next((line for line in lines if line.is_live), None),
        serving=serving,
        control=control,
        suggested=_suggested(serving, control),
        name=f"experiment-{len(lines) + 1}",
        unit_sources=UNIT_SOURCES,
    )


def _suggested(serving: Sequence[Row], control: Row) -> str:
    """The variant that there is most reason to try; empty where there is none."""
    found = recommendation(serving)
    return found.row.variant if found is not None and found.row is not control else ""


@routes.get("/experiments/{experiment_id}")
def show(experiment_id: str, request: Request) -> Response:
    # scipy comes with it, which no other page needs.
    from app.experiments.results import results

    with provided(request).database.reading() as session:
        experiment = experiments.find(session, experiment_id)
        found = results(session, experiment)
        line = ExperimentLine.of(experiment, found)
        happenings = [Happening.of(event) for event in experiments.events_after(session, experiment.id)]
        return page(
            "pages/experiment.html",
            place="Experiments",
            headers=_ENDED if line.is_final else {},
            line=line,
            experiment=experiment,
            api=f"/api/v1/models/{line.model}/experiments/{line.id}",
            results=found,
            verdicts=[(arm, *WORDS[arm["verdict"]["word"]]) for arm in found["arms"] if arm["verdict"]],
            whiskers=whiskers(experiment, found),
            whisker_width=WIDTH,
            outcomes=sorted({name for arm in found["arms"] for name in arm["outcomes"]}),
            requests=sum(arm["requests"] for arm in found["arms"]),
            units=sum(arm["units"] for arm in found["arms"]),
            happenings=happenings[::-1],
            changeable=_changeable(experiment),
            key=uuid.uuid4().hex,
        )


def _changeable(experiment: Experiment) -> bool:
    return experiment.state not in experiments.FINAL
