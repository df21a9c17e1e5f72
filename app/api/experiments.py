"""`/api/v1/models/{model}/experiments`"""

import hashlib
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from app.api import event_stream
from app.api.event_stream import Event
from app.api.experiment_views import (
    AssignmentView,
    ChangeRequest,
    EventView,
    ExperimentRequest,
    ExperimentResults,
    ExperimentView,
    PromoteRequest,
    RampRequest,
    Results,
    RollbackRequest,
    StopRequest,
)
from app.api.parameters import ExperimentId, IdempotencyKey, LastEventId, ModelName
from app.api.services import Provided, Services
from app.errors import Invalid, PreconditionRequired
from app.experiments.definition import guardrails_of, samples_of, split_of
from app.experiments.guardrails import check_outcome_name
from app.registry import Session, experiments, models, variants
from app.registry.experiments import Key, NewExperiment
from app.registry.tables import Experiment, Json
from app.serving.pool import Artifact

routes = APIRouter(prefix="/models/{model}/experiments", tags=["experiments"])

_NOT_FOUND = {"description": "There is no such model, or it has no such experiment."}
_FINAL = {"description": "The experiment has ended, or its state does not allow it."}
_CHANGED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The experiment as it stands now."},
    404: _NOT_FOUND,
    409: _FINAL,
}
_EVENT = (
    "id: 3\nevent: started\n"
    'data: {"id": 3, "kind": "started", "at": "2026-01-31T12:00:00Z", "detail": {"by": "request"}}\n\n'
)


@routes.post(
    "",
    status_code=201,
    operation_id="create_experiment",
    summary="Set up an experiment",
    responses={
        200: {"model": ExperimentView, "description": "A dry run: what would be."},
        201: {"description": "A draft."},
        404: {"description": "There is no such model, or it has no such variant."},
        409: {"description": "A variant was rejected, and does not serve."},
    },
)
def create(
    model: ModelName,
    wanted: ExperimentRequest,
    response: Response,
    services: Provided,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentView:
    """Splits a model's traffic between variants, to see which is better for those who use it. This makes a draft, which
    changes nothing that is served until `POST …/{experiment_id}/start`, with the `id` of the answer.

    All variants are of one revision, and may serve. One is the control, which the others are compared with. The same
    `Idempotency-Key` again gives the same experiment, as it stands.
    """
    new = _checked(wanted)
    key = _key(idempotency_key, "create", model, wanted)
    with services.database.writing(changes=model) as session:
        of = models.find(session, model, for_update=True)
        experiment = experiments.created_by(session, of, key) if key is not None else None
        if experiment is None:
            experiment = experiments.create(session, of, new, key=key)
            _check_values(experiment)
            for guardrail in guardrails_of(experiment):
                check_outcome_name(guardrail)
        view = ExperimentView.of(experiment, kept=not wanted.dry_run)
        etag = _etag(experiment)
        if wanted.dry_run:
            session.rollback()
    if wanted.dry_run:
        response.status_code = 200
    else:
        response.headers["Location"] = f"/api/v1/models/{model}/experiments/{view.id}"
        response.headers["ETag"] = etag
    return view


def _checked(wanted: ExperimentRequest) -> NewExperiment:
    ramp = wanted.ramp
    if ramp is not None:
        _check_ramp(ramp)
    start = ramp.steps[0] if ramp is not None else 1.0
    return NewExperiment(
        name=wanted.name,
        seed=wanted.seed if wanted.seed is not None else uuid.uuid4().hex,
        unit=wanted.unit.model_dump(by_alias=True),
        arms=[arm.model_dump() for arm in wanted.arms],
        coverage=wanted.coverage if wanted.coverage is not None else start,
        shadow=[shadow.model_dump() for shadow in wanted.shadow],
        ramp=ramp.model_dump() if ramp is not None else None,
        guardrails=[guardrail.model_dump(exclude_defaults=True) for guardrail in wanted.guardrails],
        alpha=wanted.analysis.alpha,
        auto_rollback=wanted.auto_rollback,
    )


def _check_ramp(ramp: RampRequest) -> None:
    if not all(0 < step <= 1 for step in ramp.steps) or any(after <= before for before, after in pairwise(ramp.steps)):
        raise Invalid(
            f"steps of a ramp rise, from more than 0 to 1 at most; these are {ramp.steps}", field="ramp.steps"
        )


def _check_values(experiment: Experiment) -> None:
    split_of(experiment)
    samples_of(experiment)
    guardrails = guardrails_of(experiment)
    metrics = [guardrail.metric for guardrail in guardrails]
    if len(set(metrics)) < len(metrics):
        raise Invalid("each metric has one guardrail at most", field="guardrails")
    if "disagreement" in metrics and not experiment.shadow:
        raise Invalid(
            "guardrail 'disagreement' is of requests that a shadow answers too: give `shadow` a variant and a sample",
            field="guardrails",
        )


@routes.get(
    "",
    operation_id="list_experiments",
    summary="A model's experiments, the newest first",
    responses={404: {"description": "There is no such model."}},
)
def index(model: ModelName, services: Provided) -> list[ExperimentView]:
    """Without results, which each has at its own address."""
    with services.database.reading() as session:
        return [ExperimentView.of(each) for each in experiments.listed(session, models.find(session, model))]


@routes.get(
    "/{experiment_id}",
    operation_id="get_experiment",
    summary="An experiment and its results",
    responses={404: _NOT_FOUND},
)
def show(model: ModelName, experiment_id: ExperimentId, response: Response, services: Provided) -> ExperimentResults:
    """What was counted of each arm, how it compares with the control, and a verdict in words.

    Intervals hold at all times: looking often misleads nobody. `ETag` is of the definition, not of the results.
    """
    # scipy comes with it, which nobody else needs.
    from app.experiments.results import results

    with services.database.reading() as session:
        experiment = _find(session, model, experiment_id)
        response.headers["ETag"] = _etag(experiment)
        view = ExperimentView.of(experiment)
        return ExperimentResults(**view.model_dump(), results=Results(**results(session, experiment)))


@routes.get(
    "/{experiment_id}/timeline",
    operation_id="get_experiment_timeline",
    summary="What happened to an experiment",
    responses={404: _NOT_FOUND},
)
def timeline(model: ModelName, experiment_id: ExperimentId, services: Provided) -> list[EventView]:
    """In order: who changed what, and why where that is known."""
    with services.database.reading() as session:
        experiment = _find(session, model, experiment_id)
        return [EventView.of(event) for event in experiments.events_after(session, experiment.id)]


@routes.get(
    "/{experiment_id}/events",
    operation_id="follow_experiment",
    summary="What happens to an experiment, as it happens",
    response_class=EventSourceResponse,
    responses={
        200: event_stream.documented(_EVENT, "One event a change, as in the timeline."),
        404: _NOT_FOUND,
        422: {"description": "`Last-Event-ID` is not the id of an event."},
    },
)
def events(
    model: ModelName,
    experiment_id: ExperimentId,
    services: Provided,
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """Server-sent events (`text/event-stream`), which browsers read with `EventSource`, and `curl -N` prints.

    It ends with the experiment, which may take days: this page shows the answer only then. A client that was cut off
    goes on after the `Last-Event-ID` it sends.
    """
    _check_exists(services, model, experiment_id)
    return event_stream.response(partial(_events_after, services, experiment_id), last_event_id)


@routes.get(
    "/{experiment_id}/assign",
    operation_id="assign_unit",
    summary="Which arm a unit gets",
    responses={404: _NOT_FOUND},
)
def assign(
    model: ModelName,
    experiment_id: ExperimentId,
    unit: Annotated[
        str,
        Query(min_length=1, max_length=1000, description="A user, a session: what is assigned.", examples=["user-7"]),
    ],
    services: Provided,
) -> AssignmentView:
    """Follows from the seed, the weights and the coverage alone; asking counts for nothing."""
    with services.database.reading() as session:
        experiment = _find(session, model, experiment_id)
        place = split_of(experiment).place(unit)
        default = variants.default_of(session, experiment.model).label
        return AssignmentView(
            unit=unit,
            variant=place.variant,
            reason="uncovered" if place.variant is None else "hash",
            bucket=place.bucket,
            answered_by=place.variant if place.variant is not None and experiment.state == "running" else default,
        )


@routes.patch(
    "/{experiment_id}",
    operation_id="change_experiment",
    summary="Change weights or coverage",
    responses=_CHANGED
    | {
        412: {"description": "It was changed meanwhile: read it again, and decide anew."},
        428: {"description": "`If-Match` is missing."},
    },
)
def change(
    model: ModelName,
    experiment_id: ExperimentId,
    wanted: ChangeRequest,
    response: Response,
    services: Provided,
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The `ETag` of what is changed, so that no other change is lost, or `*`. It must be there.",
            openapi_examples={"any": {"summary": "Whatever it is now", "value": "*"}},
        ),
    ] = None,
) -> ExperimentView:
    """Of an experiment that has not ended. More coverage moves no unit that takes part; other weights do, after which
    the sample ratio says nothing.
    """
    if if_match is None:
        raise PreconditionRequired(
            "changes need `If-Match`: the ETag that the experiment was answered with, or `*`", field="If-Match"
        )
    if wanted.weights is None and wanted.coverage is None:
        raise Invalid("nothing to change: give `weights` or `coverage`", field="weights")
    with services.database.writing(changes=model) as session:
        _find(session, model, experiment_id)
        experiment = experiments.change(
            session, experiment_id, etag=_wanted_etag(if_match), weights=wanted.weights, coverage=wanted.coverage
        )
        _check_values(experiment)
        return _answer(experiment, response)


@routes.post(
    "/{experiment_id}/start",
    operation_id="start_experiment",
    summary="Start an experiment, or go on with it",
    responses=_CHANGED,
)
def start(
    model: ModelName,
    experiment_id: ExperimentId,
    response: Response,
    services: Provided,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentView:
    """From now on, requests that name no variant are split. Its variants are loaded first, so that none waits.

    Refused while another experiment of the model runs or is paused.
    """
    with services.database.reading() as session:
        experiment = _find(session, model, experiment_id)
        over = experiment.state in experiments.FINAL
        needed = [] if over else _artifacts(session, experiment, (*experiment.arms, *experiment.shadow))
    _load(services, needed)
    key = _key(idempotency_key, "start", experiment_id)
    return _act(services, response, model, lambda session: experiments.start(session, experiment_id, key=key))


@routes.post(
    "/{experiment_id}/pause",
    operation_id="pause_experiment",
    summary="Pause an experiment",
    responses=_CHANGED,
)
def pause(
    model: ModelName,
    experiment_id: ExperimentId,
    response: Response,
    services: Provided,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentView:
    """The default answers all requests until it is started again; what was counted stays."""
    _check_exists(services, model, experiment_id)
    key = _key(idempotency_key, "pause", experiment_id)
    return _act(services, response, model, lambda session: experiments.pause(session, experiment_id, key=key))


@routes.post(
    "/{experiment_id}/stop",
    operation_id="stop_experiment",
    summary="End an experiment",
    responses=_CHANGED,
)
def stop(
    model: ModelName,
    experiment_id: ExperimentId,
    response: Response,
    services: Provided,
    wanted: StopRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentView:
    """Without a winner: the default answers all. Outcomes may still be reported, and an arm be promoted."""
    _check_exists(services, model, experiment_id)
    asked = wanted or StopRequest()
    key = _key(idempotency_key, "stop", experiment_id, asked)
    return _act(
        services,
        response,
        model,
        lambda session: experiments.stop(session, experiment_id, reason=asked.reason, key=key),
    )


@routes.post(
    "/{experiment_id}/rollback",
    operation_id="rollback_experiment",
    summary="Take the units of an arm away",
    responses=_CHANGED,
)
def rollback(
    model: ModelName,
    experiment_id: ExperimentId,
    response: Response,
    services: Provided,
    wanted: RollbackRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentView:
    """Of one arm, or of each but the control, with which the experiment ends. No unit moves to another arm."""
    _check_exists(services, model, experiment_id)
    asked = wanted or RollbackRequest()
    key = _key(idempotency_key, "rollback", experiment_id, asked)
    return _act(
        services,
        response,
        model,
        lambda session: experiments.rollback(session, experiment_id, asked.variant, asked.reason, key=key),
    )


@routes.post(
    "/{experiment_id}/promote",
    operation_id="promote_experiment",
    summary="Make an arm the default",
    responses=_CHANGED,
)
def promote(
    model: ModelName,
    experiment_id: ExperimentId,
    wanted: PromoteRequest,
    response: Response,
    services: Provided,
    idempotency_key: IdempotencyKey = None,
) -> ExperimentView:
    """Ends the experiment. The variant is loaded first, and the default changes with the end of the split, so that no
    request waits or fails. Refused where the arms do not have the units that they should.
    """
    from app.experiments.results import refusal

    with services.database.reading() as session:
        experiment = _find(session, model, experiment_id)
        refused = refusal(session, experiment)
        chosen = [each for each in experiment.arms if wanted.variant in (each["variant"], str(each["version"]))]
        needed = _artifacts(session, experiment, chosen if refused is None else [])
    _load(services, needed)
    key = _key(idempotency_key, "promote", experiment_id, wanted)
    return _act(
        services,
        response,
        model,
        lambda session: experiments.promote(session, experiment_id, wanted.variant, refusal=refused, key=key),
    )


def _act(services: Services, response: Response, model: str, action: Callable[[Session], Experiment]) -> ExperimentView:
    with services.database.writing(changes=model) as session:
        return _answer(action(session), response)


def _answer(experiment: Experiment, response: Response) -> ExperimentView:
    response.headers["ETag"] = _etag(experiment)
    return ExperimentView.of(experiment)


def _find(session: Session, model: str, experiment_id: str) -> Experiment:
    return experiments.find(session, experiment_id, models.find(session, model))


def _check_exists(services: Services, model: str, experiment_id: str) -> None:
    with services.database.reading() as session:
        _find(session, model, experiment_id)


def _artifacts(session: Session, experiment: Experiment, rows: Iterable[Json]) -> list[Artifact]:
    """Of arms or shadows, whose variants may serve."""
    found = [variants.find(session, experiment.model, str(row["version"])) for row in rows]
    for variant in found:
        variants.check_serves(experiment.model, variant)
    return [Artifact.of(variant) for variant in found]


def _load(services: Services, artifacts: list[Artifact]) -> None:
    for artifact in artifacts:
        services.pool.load(artifact)


def _key(given: str | None, action: str, of: str, wanted: BaseModel | None = None) -> Key | None:
    if given is None:
        return None
    request = f"{action} {of} {wanted.model_dump_json() if wanted is not None else ''}"
    return Key(given, hashlib.sha256(request.encode()).hexdigest())


def _etag(experiment: Experiment) -> str:
    return f'"{experiment.etag}"'


def _wanted_etag(if_match: str) -> int | None:
    """The number in an `If-Match`; None where any will do, and -1, which none has, for what cannot be an ETag here."""
    tag = if_match.strip()
    if tag == "*":
        return None
    number = tag.removeprefix('"').removesuffix('"')
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1


def _events_after(services: Services, experiment_id: str, last_id: int) -> tuple[list[Event], bool]:
    """New events, and whether none can follow: the experiment has ended, or was deleted with its model."""
    with services.database.reading() as session:
        state = experiments.state_of(session, experiment_id)
        fresh = [
            Event(each.id, each.kind, EventView.of(each).model_dump_json())
            for each in experiments.events_after(session, experiment_id, last_id)
        ]
        return fresh, state is None or state in experiments.FINAL
