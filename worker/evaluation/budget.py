"""What a variant may cost, and whether it kept to that: the verdict, and its reasons in words."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from app.contracts.outcome import ACCEPTED, REJECTED
from worker.evaluation.heldout import Comparison
from worker.evaluation.latency import Latencies

# Two-sided, of a normal distribution.
_QUANTILE_95 = 1.959964
_QUANTILE_90 = 1.644854
_SIGNIFICANT = 0.05


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


@dataclass(frozen=True)
class _Finding:
    """A budget that was exceeded, in words; `is_sure` is False where that may be chance."""

    words: str
    is_sure: bool = True


def judge(budget: Budget, comparison: Comparison | None, latencies: Latencies) -> Verdict:
    """What exceeds its budget beyond noise is a reason to reject; what may be chance is a warning.

    A budget of no loss at all leaves nothing to chance: then every loss is a reason.
    """
    found = [*_quality(budget, comparison), *_speed(budget, latencies)]
    reasons = tuple(finding.words for finding in found if finding.is_sure)
    warnings = tuple(
        f"{finding.words}: too few samples to tell, so it was not rejected for that; judge it on more"
        for finding in found
        if not finding.is_sure
    )
    return Verdict(REJECTED if reasons else ACCEPTED, reasons, warnings)


def _quality(budget: Budget, comparison: Comparison | None) -> Iterator[_Finding]:
    if comparison is None:
        return
    limit = budget.max_accuracy_drop
    allowed = f"the budget is {limit:.2%} (max_accuracy_drop={limit:g})"
    if comparison.original_accuracy is not None and comparison.variant_accuracy is not None:
        yield from _accuracy(comparison, comparison.original_accuracy, comparison.variant_accuracy, limit, allowed)
    elif comparison.agreement is not None:
        changed = 1.0 - comparison.agreement
        if changed > limit:
            yield _Finding(
                f"the top-1 of {changed:.2%} of {comparison.samples} held-out samples changed, and without labels all"
                f" of that may be loss; {allowed}",
                is_sure=limit == 0.0 or _surely_at_least(changed, comparison.samples) > limit,
            )
    elif comparison.cosine is not None and 1.0 - comparison.cosine > limit:
        yield _Finding(f"the mean cosine with the original's output is {comparison.cosine:.4f}; {allowed}")


def _accuracy(comparison: Comparison, before: float, after: float, limit: float, allowed: str) -> Iterator[_Finding]:
    drop = 1.0 - after / before if before > 0.0 else 0.0
    paired = PairedTest.of(comparison)
    if drop <= limit or paired is None:
        return
    # Only a loss is of interest, so one side of the test is: half of its p-value.
    yield _Finding(
        f"top-1 fell from {before:.2%} to {after:.2%}, by {drop:.2%} of what it was; {allowed}; {paired.in_words}",
        is_sure=limit == 0.0 or paired.p_value / 2 < _SIGNIFICANT,
    )


def _surely_at_least(share: float, samples: int) -> float:
    """The lower end of a one-sided 95% interval of a share (Wilson, Journal of the ASA 22, 1927)."""
    square = _QUANTILE_90**2 / samples
    center = share + square / 2
    spread = _QUANTILE_90 * math.sqrt(share * (1.0 - share) / samples + square / (4 * samples))
    return (center - spread) / (1.0 + square)


def _speed(budget: Budget, latencies: Latencies) -> Iterator[_Finding]:
    if budget.min_speedup is not None and latencies.speedup < budget.min_speedup:
        yield _Finding(
            f"it runs at {latencies.speedup:.2f} times the original's speed"
            f" (95% interval {latencies.low:.2f} to {latencies.high:.2f}); the budget is"
            f" {budget.min_speedup:g} (min_speedup)"
        )


@dataclass(frozen=True)
class PairedTest:
    """Top-1 of the same samples by two models. `lost`: only the original was right; `gained`: only the variant was.

    `p_value` is that of McNemar's test, exact (McNemar, Psychometrika 12, 1947): how likely as uneven a split is if
    neither is better. `low_points`..`high_points` is the 95% interval of the change in accuracy, in percentage points
    (Agresti and Min, Statistics in Medicine 24, 2005: half a sample added to each cell).
    """

    lost: int
    gained: int
    p_value: float
    change_points: float
    low_points: float
    high_points: float

    @classmethod
    def of(cls, comparison: Comparison) -> "PairedTest | None":
        """None where there are no labels."""
        if comparison.lost is None or comparison.gained is None:
            return None
        return paired_test(comparison.lost, comparison.gained, comparison.samples)

    @property
    def in_words(self) -> str:
        noise = "beyond noise" if self.p_value < _SIGNIFICANT else "within what chance may do"
        return f"{self.lost} samples lost and {self.gained} gained, {noise} (McNemar's p={self.p_value:.2g})"

    def as_json(self) -> dict[str, Any]:
        return {"test": "McNemar, exact", "confidence": 0.95, **asdict(self)}


def paired_test(lost: int, gained: int, samples: int) -> PairedTest:
    """Of `samples` > 0, `lost` and `gained` as in `PairedTest`."""
    discordant, fewer = lost + gained, min(lost, gained)
    tail = sum(math.comb(discordant, count) for count in range(fewer + 1))
    p_value = min(1.0, 2 * tail / 2**discordant)
    total = samples + 2.0
    change = (gained - lost) / total
    spread = math.sqrt(max(0.0, (discordant + 1.0) / total - change**2) / total)
    return PairedTest(
        lost,
        gained,
        p_value,
        100.0 * (gained - lost) / samples,
        100.0 * max(-1.0, change - _QUANTILE_95 * spread),
        100.0 * min(1.0, change + _QUANTILE_95 * spread),
    )
