"""`/api/v1/outcomes`"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from app.api.bodies import Strict
from app.api.services import Provided
from app.errors import Conflict, Invalid
from app.registry import Session, experiments, records
from app.registry.database import NOTHING
from app.registry.records import LABEL, OUTCOME_NAME, NewOutcome

routes = APIRouter(prefix="/outcomes", tags=["experiments"])


def _counted(value: Any) -> Any:
    return float(value) if isinstance(value, bool) else value


_Value = Annotated[float, BeforeValidator(_counted), WithJsonSchema({"type": ["number", "boolean"]})]


class OutcomeReport(Strict):
    """What came of a request, or of a unit: one of the two is named."""

    metric: str = Field(
        pattern=f"^{OUTCOME_NAME}$",
        examples=["clicked"],
        description=f"A name, or `{LABEL}`: the number of the class that is the right answer to a request.",
    )
    value: _Value = Field(
        description="1 or true for what happened and 0 or false for what did not, or any number: means are compared."
    )
    request_id: str | None = Field(default=None, min_length=1, max_length=10_000)
    unit: str | None = Field(default=None, min_length=1, max_length=200)
    experiment: str | None = Field(
        default=None, description="Its id. Default: the one that answered the request, or each that is live."
    )


class OutcomesView(BaseModel):
    """How many reports came, and how many of them told something new."""

    received: int
    new: int


@routes.post(
    "",
    operation_id="report_outcomes",
    summary="Report outcomes",
    responses={
        404: {"description": "There is no such experiment."},
        409: {"description": "No experiment is running that an outcome could be about."},
    },
)
def report(
    reports: Annotated[
        list[OutcomeReport],
        Body(
            min_length=1,
            max_length=1000,
            examples=[[{"unit": "user-7", "metric": "clicked", "value": 1}]],
        ),
    ],
    services: Provided,
) -> OutcomesView:
    """What users did with the answers (clicked, bought, corrected), so that experiments can compare variants by it.

    Kept before it is answered. The same again changes nothing; of one request or unit there is one value of each
    metric, the first. They may come before the request was counted, and after the experiment has ended.
    """
    for number, each in enumerate(reports):
        _check(number, each)
    with services.database.writing(changes=NOTHING) as session:
        sorted_out = _by_experiment(session, reports)
        new = sum(records.add_outcomes(session, of, outcomes) for of, outcomes in sorted_out.items())
    return OutcomesView(received=len(reports), new=new)


def _check(number: int, report: OutcomeReport) -> None:
    if (report.request_id is None) == (report.unit is None):
        raise Invalid(f"outcome {number} must name a `request_id` or a `unit`, and not both", field=f"{number}.unit")
    if report.unit is not None and "\0" in report.unit:
        raise Invalid(f"the unit of outcome {number} has a null character in it", field=f"{number}.unit")
    if report.metric == LABEL and report.request_id is None:
        raise Invalid(f"outcome {number} is a label, which names the `request_id` it is of", field=f"{number}.unit")
    if report.metric == LABEL and not (report.value >= 0 and report.value.is_integer()):
        raise Invalid(
            f"the label of outcome {number} is {report.value:g}; labels are numbers of classes, 0 and up",
            field=f"{number}.value",
        )


def _by_experiment(session: Session, reports: list[OutcomeReport]) -> dict[str, list[NewOutcome]]:
    answered = records.answered_in(session, [each.request_id for each in reports if each.request_id is not None])
    live = experiments.live_ids(session)
    # A request that was just answered may not be in the registry yet: it is reported to all that could have been it.
    just_live = experiments.just_live_ids(session)
    known: set[str] = set()
    sorted_out: dict[str, list[NewOutcome]] = defaultdict(list)
    classes = experiments.classes_of(session) if any(each.metric == LABEL for each in reports) else {}
    for number, each in enumerate(reports):
        if each.experiment is not None and each.experiment not in known:
            known.add(_open(session, each.experiment, number))
        if each.experiment is not None:
            about = [each.experiment]
        else:
            about = live if each.request_id is None else answered.get(each.request_id, just_live)
        if not about:
            raise Conflict(
                f"no experiment is running that outcome {number} could be about: name one by `experiment`",
                field=f"{number}.experiment",
            )
        if each.metric == LABEL:
            about = _with_class(number, each, about, classes)
        for experiment_id in about:
            sorted_out[experiment_id].append(NewOutcome(each.metric, each.value, each.request_id, each.unit))
    return sorted_out


def _with_class(number: int, label: OutcomeReport, about: list[str], classes: Mapping[str, int]) -> list[str]:
    """Those experiments whose model has the class, as far as their `classes` are known."""
    fitting = [each for each in about if each not in classes or label.value < classes[each]]
    if not fitting:
        most = max(classes[each] for each in about)
        raise Invalid(
            f"the label of outcome {number} is {label.value:g}; the model has {most} classes, 0 to {most - 1}",
            field=f"{number}.value",
        )
    return fitting


def _open(session: Session, experiment_id: str, number: int) -> str:
    """The id of an experiment that takes outcomes."""
    experiment = experiments.find(session, experiment_id)
    if experiment.closed_at is not None:
        raise Conflict(
            f"experiment '{experiment.name}' of outcome {number} has long ended, and takes no outcomes any more",
            field=f"{number}.experiment",
        )
    return experiment.id
