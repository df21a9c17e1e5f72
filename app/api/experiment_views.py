"""What is said of experiments, and what may be asked for."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.bodies import Strict
from app.experiments.definition import split_of
from app.registry.tables import Experiment, ExperimentEvent

_WHERE = r"^(header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}|param:.{1,100}|api_key)$"
_METRIC = Field(description="`error_rate`, `latency_p95` (any of p1 to p99), `disagreement` or `outcome:NAME`.")


class UnitRequest(Strict):
    """What is assigned to an arm: where a request names its unit, the first that it has."""

    from_: list[Annotated[str, Field(pattern=_WHERE)]] = Field(
        default=["header:X-Unit-Id", "param:unit_id", "api_key"],
        alias="from",
        min_length=1,
        max_length=10,
        description="`header:NAME`, `param:NAME` (of the request's `parameters`), or `api_key`.",
    )
    on_missing: Literal["control", "random"] = Field(
        default="control", description="Which arm answers a request that names none: it is not in the analysis."
    )


class ArmRequest(Strict):
    """A variant, by label or version, and its weight relative to the others."""

    variant: str
    weight: float
    control: bool = Field(default=False, description="The one that the others are compared with.")


class ShadowRequest(Strict):
    """A variant that answers a sample of the requests once more, after the user was answered."""

    variant: str
    sample: float = Field(description="The part of the requests, 0 to 1.")


class RampRequest(Strict):
    """Coverage grows by steps, each held for so long and until so many units have come since."""

    steps: list[float] = Field(min_length=1, max_length=100, examples=[[0.01, 0.1, 0.5, 1.0]])
    hold_s: float = Field(default=300, ge=0, description="Seconds at least between steps.")
    min_units: int = Field(default=0, ge=0, le=2**31 - 1, description="Units at least between steps.")


class GuardrailRequest(Strict):
    """What an arm may not do worse than the control, and by how much: the one limit that belongs to the metric."""

    metric: str = _METRIC
    margin_abs: float | None = Field(default=None, description="For `error_rate` and outcomes: 0.002 is 0.2 points.")
    margin_rel: float | None = Field(default=None, description="For latencies: 0.1 is 10% slower.")
    max: float | None = Field(default=None, description="For `disagreement`: the part of the answers that may differ.")
    lower_is_better: bool = Field(default=False, description="Of outcomes, such as returns or complaints.")


class AnalysisRequest(Strict):
    alpha: float = Field(default=0.05, gt=0, le=0.5, description="How often intervals may be wrong.")


class ExperimentRequest(Strict):
    """Variants of one revision to compare, on a part of the model's traffic."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "int8-live",
                    "arms": [
                        {"variant": "original", "weight": 50, "control": True},
                        {"variant": "int8", "weight": 50},
                    ],
                    "coverage": 0.1,
                    "shadow": [{"variant": "int8", "sample": 0.05}],
                    "guardrails": [{"metric": "error_rate", "margin_abs": 0.002}],
                }
            ]
        }
    )

    name: str
    unit: UnitRequest = Field(default_factory=UnitRequest)
    arms: list[ArmRequest] = Field(max_length=20)
    coverage: float | None = Field(
        default=None,
        description="The part of all units that takes part. Default: 1, or the first step of the ramp, which goes on"
        " from here.",
    )
    seed: str | None = Field(
        default=None,
        pattern=r"^[^\x00]{1,255}$",
        description="Who gets what follows from it. Default: a random one.",
    )
    shadow: list[ShadowRequest] = Field(default_factory=list, max_length=20)
    ramp: RampRequest | None = None
    guardrails: list[GuardrailRequest] = Field(default_factory=list, max_length=50)
    analysis: AnalysisRequest = Field(default_factory=AnalysisRequest)
    auto_rollback: bool = Field(default=True, description="An arm that breaks a guardrail gets no more units.")
    dry_run: bool = Field(default=False, description="Check, answer what would be, and keep nothing.")


class ChangeRequest(Strict):
    """Other weights, by variant, or another coverage. Weights move units from one arm to another; coverage does not."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"coverage": 0.5}, {"weights": {"original": 20, "int8": 80}}]}
    )

    weights: dict[str, float] | None = None
    coverage: float | None = Field(default=None, description="The part of all units that takes part, 0 to 1.")


class StopRequest(Strict):
    """Why, for the timeline."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "seen enough"}]})

    reason: str | None = Field(default=None, max_length=1000)


class RollbackRequest(Strict):
    """The arm that gets no more units. Default: each but the control."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"variant": "int8", "reason": "asked for"}]})

    variant: str | None = None
    reason: str = Field(default="asked for", max_length=1000)


class PromoteRequest(Strict):
    """The arm that becomes the model's default."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"variant": "int8"}]})

    variant: str


class ArmView(BaseModel):
    """`share` is the part of all units that it gets."""

    variant: str
    version: int
    weight: float
    control: bool
    stopped: bool
    share: float


class ShadowView(BaseModel):
    variant: str
    version: int
    sample: float


class AnalysisView(BaseModel):
    alpha: float


class ExperimentView(BaseModel):
    """An experiment as it stands."""

    id: str | None = Field(description="null for what a dry run would have made.")
    model: str
    revision: int
    name: str
    state: Literal["draft", "running", "paused", "stopped", "rolled_back", "promoted"]
    seed: str
    unit: dict[str, Any]
    arms: list[ArmView]
    coverage: float
    shadow: list[ShadowView]
    ramp: dict[str, Any] | None
    step: int = Field(description="How many steps of the ramp the coverage has reached.")
    step_at: datetime | None
    guardrails: list[dict[str, Any]]
    analysis: AnalysisView
    auto_rollback: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    closed_at: datetime | None = Field(description="Since when outcomes are taken no more, long after the end.")

    @classmethod
    def of(cls, experiment: Experiment, *, kept: bool = True) -> "ExperimentView":
        shares = split_of(experiment).shares
        return cls(
            id=experiment.id if kept else None,
            model=experiment.model.name,
            revision=experiment.revision.number,
            name=experiment.name,
            state=experiment.state,
            seed=experiment.seed,
            unit=experiment.unit,
            arms=[ArmView(**each, share=shares[each["variant"]]) for each in experiment.arms],
            coverage=experiment.coverage,
            shadow=[ShadowView(**each) for each in experiment.shadow],
            ramp=experiment.ramp,
            step=experiment.step,
            step_at=experiment.step_at,
            guardrails=experiment.guardrails,
            analysis=AnalysisView(alpha=experiment.alpha),
            auto_rollback=experiment.auto_rollback,
            created_at=experiment.created_at,
            started_at=experiment.started_at,
            ended_at=experiment.ended_at,
            closed_at=experiment.closed_at,
        )


class IntervalView(BaseModel):
    """An estimate, and what the truth is between, however often one looks. null is a bound that is not known yet."""

    low: float | None
    estimate: float | None
    high: float | None


class GuardrailView(BaseModel):
    """`interval` is of the difference to the control; relative for latencies, and for disagreement the rate itself."""

    metric: str
    limit: float
    result: Literal["holds", "broken", "undecided"]
    interval: IntervalView


class VerdictView(BaseModel):
    """An arm compared with the control. `error_rate` and `outcomes` are differences, arm less control."""

    word: Literal["better", "not_worse", "worse", "inconclusive"]
    sentence: str
    speedup: IntervalView = Field(description="How many times as fast at p50.")
    speedup_is_paired: bool = Field(description="By pairs of a shadow, which cores that arms share do not disturb.")
    error_rate: IntervalView
    outcomes: dict[str, IntervalView]
    disagreement: IntervalView | None
    right_answers: IntervalView | None = Field(description="By pairs whose right answer was reported as `label`.")
    guardrails: list[GuardrailView]


class OutcomeView(BaseModel):
    count: int
    mean: IntervalView


class ArmResults(BaseModel):
    """What was counted of an arm, and what may be said of it. The control has no verdict."""

    variant: str
    control: bool
    stopped: bool
    requests: int
    units: int = Field(description="Exact up to 65,536 in all arms together, and from a sample beyond.")
    errors: int
    error_rate: IntervalView
    latency_ms: dict[str, IntervalView] | None = Field(description="`p50`, `p95` and `p99` of answered requests.")
    outcomes: dict[str, OutcomeView]
    verdict: VerdictView | None


class RightAnswersView(BaseModel):
    """McNemar's test of the pairs whose right answer is known. `change`: of the part of right answers."""

    labelled: int
    control_only: int = Field(description="Pairs of which the control is right, and the shadow is not.")
    variant_only: int = Field(description="Pairs of which the shadow is right, and the control is not.")
    change: IntervalView
    p_value: float
    anytime_p_value: float


class SavingView(BaseModel):
    """Requests that it takes to find something: by the split, and by pairs."""

    finds: str
    split: int
    paired: int
    times: float


class ShadowResults(BaseModel):
    """The same requests, answered by the control and by the shadow."""

    variant: str
    pairs: int
    compared: int = Field(description="Pairs whose answers have a top-1.")
    disagreements: int
    disagreement: IntervalView | None
    cosine: float | None
    max_abs_difference: float | None
    speedup: IntervalView | None = Field(description="The median, over pairs, of how many times as fast it is.")
    mean_speedup: IntervalView | None
    right_answers: RightAnswersView | None
    savings: list[SavingView]


class SampleRatioView(BaseModel):
    """Whether the arms have the units that their weights say; null where too few have come, or weights changed."""

    p_value: float | None
    anytime_p_value: float | None
    mismatch: bool | None
    warning: str | None


class Results(BaseModel):
    """What is known of an experiment now."""

    arms: list[ArmResults]
    shadows: list[ShadowResults]
    sample_ratio: SampleRatioView
    multiple_exposure_rate: float = Field(description="The part of all units that was in more than one arm.")
    note: str


class ExperimentResults(ExperimentView):
    """The experiment, and what is known of it now."""

    results: Results


class EventView(BaseModel):
    """Something that happened: `by` in its detail says who asked for it, `reason` why."""

    id: int
    kind: Literal["created", "started", "resumed", "paused", "stopped", "changed", "ramped", "rolled_back", "promoted"]
    at: datetime
    detail: dict[str, Any]

    @classmethod
    def of(cls, event: ExperimentEvent) -> "EventView":
        return cls(id=event.id, kind=event.kind, at=event.at, detail=event.detail)


class AssignmentView(BaseModel):
    """What the split says of a unit; `variant` is null, and the default answers, where it is not covered."""

    unit: str
    variant: str | None
    reason: Literal["hash", "uncovered"]
    bucket: int
    answered_by: str = Field(description="What answers its requests now, whether or not the experiment runs.")
