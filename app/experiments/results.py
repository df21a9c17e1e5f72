"""From what was kept of an experiment to what may be said of it. Brings scipy: to be imported when results are wanted.

Infinite bounds, where nothing is known yet, are None here: JSON has no infinity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import Any

from app.experiments.assignment import Arm
from app.experiments.counts import Counts
from app.experiments.definition import guardrails_of, split_of
from app.experiments.differences import exact_proportion, latency_quantile
from app.experiments.evidence import Evidence
from app.experiments.moments import Moments
from app.experiments.paired import disagreement, mcnemar, mean, mean_speedup, speedup
from app.experiments.pairs import Pairs
from app.experiments.reports import add_reports
from app.experiments.sample_ratio import SampleRatio, sample_ratio
from app.experiments.sequences import Interval
from app.experiments.traffic import Traffic, traffic_for_means, traffic_for_rates
from app.experiments.verdict import Verdict, verdict
from app.registry import Session, experiments, records
from app.registry.tables import Experiment

Json = dict[str, Any]

_NS_PER_MS = 1e6

SHARED_CORES = (
    "Arms answer on the same cores, so a slow one makes the others slow too, and their latencies are closer to each"
    " other than they would be alone. The clean figure is the paired speedup of a shadow."
)
WEIGHTS_CHANGED = (
    "Weights were changed after units had come: some were moved to another arm, and there are no shares that all"
    " units should have. The sample ratio is not checked."
)

#: What the saving by pairs is shown for: latency that changes by 5%, and right answers, of which the control gives 80%,
#: that change by half a point.
_LATENCY_EFFECT = log(1.05)
_RIGHT_ANSWERS, _ANSWERS_EFFECT = 0.8, 0.005


@dataclass(frozen=True)
class Findings:
    """What was counted of an experiment, by all processes together, and what may be said of it now.

    Attributes:
        evidence: of the arms in order, then of shadows that are none.
        verdicts: of each arm but the control, in order.
        sample_ratio: None where weights were changed after units had come.
    """

    counts: Counts
    evidence: tuple[Evidence, ...]
    verdicts: tuple[Verdict, ...]
    sample_ratio: SampleRatio | None


def findings(session: Session, experiment: Experiment) -> Findings:
    """Reads all that was kept of `experiment`, and judges it."""
    counts = counted(session, experiment)
    add_reports(session, experiment, counts)
    evidence = tuple(counts.evidence())
    return Findings(
        counts=counts,
        evidence=evidence,
        verdicts=tuple(verdicts(experiment, evidence)),
        sample_ratio=sample_ratio_of(session, experiment, counts),
    )


def counted(session: Session, experiment: Experiment) -> Counts:
    """The counts of all processes together, with sums of what was reported so long ago that there are no rows of it."""
    total = Counts([each["variant"] for each in experiment.arms])
    for each in records.counts_of(session, experiment.id):
        total.merge(Counts.from_json(each))
    return total


def verdicts(experiment: Experiment, evidence: Sequence[Evidence]) -> list[Verdict]:
    """Of each arm but the control. `evidence` has the arms in order."""
    of_arms = dict(zip((arm.variant for arm in split_of(experiment).arms), evidence, strict=False))
    control = of_arms.pop(split_of(experiment).control.variant)
    guardrails = guardrails_of(experiment)
    return [verdict(control, arm, guardrails, alpha=experiment.alpha, arms=len(of_arms)) for arm in of_arms.values()]


def sample_ratio_of(session: Session, experiment: Experiment, counts: Counts) -> SampleRatio | None:
    """Of the arms that are not stopped, by their weights; None where these were changed after units had come."""
    if experiments.weights_changed(session, experiment.id):
        return None
    shares = {each["variant"]: each["weight"] for each in experiment.arms if not each["stopped"]}
    return sample_ratio(counts.remembered_units(), shares)


def refusal(session: Session, experiment: Experiment) -> str | None:
    """Why what was counted is not to be acted on, in words for the client; None where nothing speaks against it."""
    found = sample_ratio_of(session, experiment, counted(session, experiment))
    if found is None or not found.mismatch:
        return None
    return (
        f"{_mismatch(found)}; nothing is promoted on that. To serve a variant all the same: PUT"
        f" /api/v1/models/{experiment.model.name}/default"
    )


def results(session: Session, experiment: Experiment) -> Json:
    """What is known now, as JSON: see `app.api.experiment_views.Results`."""
    found = findings(session, experiment)
    split = split_of(experiment)
    said = {each.variant: each for each in found.verdicts}
    evidence = {each.variant: each for each in found.evidence}
    control = evidence[split.control.variant]
    shadows = {each["variant"]: None for each in experiment.shadow} | dict.fromkeys(sorted(found.counts.pairs))
    ratio = found.sample_ratio
    return {
        "arms": [
            _arm(arm, evidence[arm.variant], found.counts, said.get(arm.variant), experiment.alpha)
            for arm in split.arms
        ],
        "shadows": [
            _shadow(variant, found.counts.pairs.get(variant, Pairs()), control, experiment.alpha) for variant in shadows
        ],
        "sample_ratio": {
            "p_value": ratio.p_value if ratio else None,
            "anytime_p_value": ratio.anytime_p_value if ratio else None,
            "mismatch": ratio.mismatch if ratio else None,
            "warning": WEIGHTS_CHANGED if ratio is None else _mismatch(ratio) if ratio.mismatch else None,
        },
        "multiple_exposure_rate": found.counts.units.multiple_exposure_rate,
        "note": SHARED_CORES,
    }


def _mismatch(ratio: SampleRatio) -> str:
    return (
        f"the arms do not have the units that their weights say (p = {ratio.p_value:.2g}): something loses units of one"
        " arm, and no comparison can be trusted until it is found"
    )


def _arm(arm: Arm, evidence: Evidence, counts: Counts, said: Verdict | None, alpha: float) -> Json:
    return {
        "variant": arm.variant,
        "control": arm.control,
        "stopped": arm.stopped,
        "requests": counts.requests(arm.variant),
        "units": counts.unit_count(arm.variant),
        "errors": counts.failures(arm.variant),
        "error_rate": _interval(_mean(evidence.errors, alpha)),
        "latency_ms": {
            f"p{percent}": _interval(latency_quantile(evidence.latency, percent / 100, alpha), 1 / _NS_PER_MS)
            for percent in (50, 95, 99)
        }
        if evidence.latency.total.count
        else None,
        "outcomes": {
            name: {"count": int(moments.denominator), "mean": _interval(_mean(moments, alpha))}
            for name, moments in sorted(evidence.outcomes.items())
        },
        "verdict": _verdict(said) if said is not None else None,
    }


def _mean(moments: Moments, alpha: float) -> Interval:
    """Of a proportion the exact interval, which is never beyond 0 and 1."""
    return exact_proportion(moments, alpha) if moments.proportion else mean(moments, alpha)


def _verdict(said: Verdict) -> Json:
    return {
        "word": said.word.value,
        "sentence": said.sentence,
        "speedup": _interval(said.differences.speedup),
        "speedup_is_paired": said.differences.paired,
        "error_rate": _interval(said.differences.errors),
        "outcomes": {name: _interval(change) for name, change in said.differences.outcomes.items()},
        "disagreement": _interval(said.differences.disagreement) if said.differences.disagreement else None,
        "right_answers": _interval(said.differences.right_answers) if said.differences.right_answers else None,
        "guardrails": [
            {
                "metric": each.guardrail.metric,
                "limit": each.guardrail.limit,
                "result": each.result.value,
                "interval": _interval(each.interval),
            }
            for each in said.judgements
        ],
    }


def _shadow(variant: str, pairs: Pairs, control: Evidence, alpha: float) -> Json:
    right = mcnemar(pairs, alpha) if pairs.labelled else None
    return {
        "variant": variant,
        "pairs": pairs.count,
        "compared": pairs.compared,
        "disagreements": pairs.disagreements,
        "disagreement": _interval(disagreement(pairs, alpha)) if pairs.compared else None,
        "cosine": pairs.mean_cosine,
        "max_abs_difference": _finite(pairs.max_abs_difference) if pairs.count else None,
        "speedup": _interval(speedup(pairs, 0.5, alpha), absent=not pairs.count),
        "mean_speedup": _interval(mean_speedup(pairs, alpha), absent=not pairs.count),
        "right_answers": {
            "labelled": pairs.labelled,
            "control_only": pairs.control_only,
            "variant_only": pairs.variant_only,
            "change": _interval(right.change),
            "p_value": right.p_value,
            "anytime_p_value": right.anytime_p_value,
        }
        if right is not None
        else None,
        "savings": _savings(pairs, control),
    }


def _savings(pairs: Pairs, control: Evidence) -> list[Json]:
    """How much less traffic pairs take than the split does, by how much requests and pairs were seen to vary."""
    found: list[Json] = []
    if pairs.compared:
        differs = pairs.disagreements / pairs.compared
        traffic = traffic_for_rates(_RIGHT_ANSWERS, differs, -_ANSWERS_EFFECT)
        found.append(_saving("right answers that are 0.5 points fewer than 80%", traffic))
    deviation = control.latency.total.log_deviation
    if pairs.count > 1 and deviation:
        traffic = traffic_for_means(deviation, _paired_deviation(pairs), _LATENCY_EFFECT)
        found.append(_saving("a latency that is 5% longer", traffic))
    return found


def _saving(finds: str, traffic: Traffic) -> Json:
    return {"finds": finds, "split": traffic.split, "paired": traffic.paired, "times": traffic.saving}


def _paired_deviation(pairs: Pairs) -> float:
    average = pairs.log_ratio / pairs.count
    return sqrt(max(pairs.log_ratio_squares / pairs.count - average * average, 0.0))


def _interval(interval: Interval, scale: float = 1.0, *, absent: bool = False) -> Mapping[str, float | None] | None:
    if absent:
        return None
    bounds = {"low": interval.low, "estimate": interval.estimate, "high": interval.high}
    return {name: _finite(scale * bound) for name, bound in bounds.items()}


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
