"""A kept experiment, in the terms of this room."""

from app.experiments.assignment import Arm, Sample, Split
from app.experiments.guardrails import Guardrail
from app.registry.tables import Experiment


def split_of(experiment: Experiment) -> Split:
    """How its units are split now; raises `Invalid` as `Split` does."""
    arms = (
        Arm(each["variant"], each["weight"], control=each["control"], stopped=each["stopped"])
        for each in experiment.arms
    )
    return Split(experiment.seed, tuple(arms), experiment.coverage)


def guardrails_of(experiment: Experiment) -> tuple[Guardrail, ...]:
    """What its arms may not do worse than the control; raises `Invalid` as `Guardrail` does."""
    return tuple(Guardrail(**each) for each in experiment.guardrails)


def samples_of(experiment: Experiment) -> tuple[Sample, ...]:
    """Which requests its shadows take; raises `Invalid` as `Sample` does."""
    return tuple(Sample(experiment.seed, each["variant"], each["sample"]) for each in experiment.shadow)
