"""Statistics of paired answers: two models that answered the same samples."""

import math
from dataclasses import asdict, dataclass
from typing import Any

# Two-sided, of a normal distribution.
QUANTILE_95 = 1.959964
QUANTILE_90 = 1.644854

SIGNIFICANT = 0.05


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

    @property
    def in_words(self) -> str:
        noise = "beyond noise" if self.p_value < SIGNIFICANT else "within what chance may do"
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
        100.0 * max(-1.0, change - QUANTILE_95 * spread),
        100.0 * min(1.0, change + QUANTILE_95 * spread),
    )


def wilson_interval(share: float, samples: int, quantile: float = QUANTILE_95) -> tuple[float, float]:
    """Compute the confidence interval of a share (Wilson, Journal of the ASA 22, 1927).

    Args:
        share: 0..1, of `samples`.
        samples: More than 0.
        quantile: Of the normal distribution: `QUANTILE_95` gives a two-sided 95% interval; the lower end at
            `QUANTILE_90` is that of a one-sided 95% interval.

    Returns:
        The lower and the upper end, 0..1.
    """
    square = quantile**2 / samples
    center = share + square / 2
    spread = quantile * math.sqrt(share * (1.0 - share) / samples + square / (4 * samples))
    return (center - spread) / (1.0 + square), (center + spread) / (1.0 + square)
