"""What a variant may cost, and whether it kept to that: the verdict, and its reasons in words."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.contracts.outcome import ACCEPTED, REJECTED
from worker.evaluation.heldout import Comparison
from worker.evaluation.latency import Latencies
from worker.evaluation.metrics import Breach


@dataclass(frozen=True)
class Budget:
    """`max_accuracy_drop`: the share of the original's accuracy that may go; `min_speedup`: None is any."""

    max_accuracy_drop: float
    min_speedup: float | None


@dataclass(frozen=True)
class Verdict:
    """`verdict` is "accepted" or "rejected"; `reasons` say why it was rejected, `warnings` what nearly did."""

    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def judge(budget: Budget, comparison: Comparison | None, latencies: Latencies) -> Verdict:
    """What exceeds its budget beyond noise is a reason to reject; what may be chance is a warning.

    A budget of no loss at all leaves nothing to chance: then every loss is a reason.
    """
    found = [*_quality(budget, comparison), *_speed(budget, latencies)]
    reasons = tuple(breach.words for breach in found if breach.is_sure)
    warnings = tuple(
        f"{breach.words}: too few samples to tell, so it was not rejected for that; judge it on more"
        for breach in found
        if not breach.is_sure
    )
    return Verdict(REJECTED if reasons else ACCEPTED, reasons, warnings)


def _quality(budget: Budget, comparison: Comparison | None) -> Iterator[Breach]:
    for metric in comparison.metrics if comparison is not None else ():
        breach = metric.breach(budget.max_accuracy_drop)
        if breach is not None:
            yield breach


def _speed(budget: Budget, latencies: Latencies) -> Iterator[Breach]:
    if budget.min_speedup is not None and latencies.speedup < budget.min_speedup:
        yield Breach(
            f"it runs at {latencies.speedup:.2f} times the original's speed"
            f" (95% interval {latencies.low:.2f} to {latencies.high:.2f}); the budget is"
            f" {budget.min_speedup:g} (min_speedup)"
        )
