"""Rates and means whose observations are not independent, from sums that can be added up.

One client sends many requests, and they are alike: of 1,000 requests by 10 clients one does not learn as much as of
1,000 by 1,000. So what is counted are clusters, each a pair of a numerator and a denominator (errors and requests, a
metric's values and how many there are), and the rate Σ numerators / Σ denominators varies as the clusters do. A cluster
is one unit, where sums by unit are at hand. On the hot path it is one of the 256 buckets that units are hashed into:
what one gateway has seen of a unit can be added to what another has, squares by unit cannot, and a unit is in one
bucket on all of them. Clusters are taken to be independent, whatever happens within; so is every unit, if buckets are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Any

from app.experiments.assignment import BUCKETS


@dataclass(frozen=True)
class Moments:
    """Sums over clusters. `proportion` says that all numerators are parts of their denominators, 0 to all of it.

    Sums of squares lose digits where values are far from 0 and close to each other; times are to come as logarithms.
    """

    clusters: int = 0
    numerator: float = 0.0
    denominator: float = 0.0
    numerator_squares: float = 0.0
    denominator_squares: float = 0.0
    products: float = 0.0
    proportion: bool = True

    @classmethod
    def of(cls, numerators: Sequence[float], denominators: Sequence[float] | None = None) -> "Moments":
        """One cluster for each numerator and its denominator, which is 1 where none are given."""
        parts = [1.0] * len(numerators) if denominators is None else denominators
        pairs = list(zip(numerators, parts, strict=True))
        return cls(
            clusters=len(pairs),
            numerator=fsum(numerators),
            denominator=fsum(parts),
            numerator_squares=fsum(part * part for part in numerators),
            denominator_squares=fsum(part * part for part in parts),
            products=fsum(above * below for above, below in pairs),
            proportion=all(0 <= above <= below for above, below in pairs),
        )

    @classmethod
    def of_values(cls, count: int, total: float, squares: float, *, proportion: bool = False) -> "Moments":
        """`count` single values, by their sum and the sum of their squares."""
        return cls(count, total, count, squares, count, total, proportion)

    def merged(self, other: "Moments") -> "Moments":
        """Of both; no cluster may be in either."""
        return Moments(
            self.clusters + other.clusters,
            self.numerator + other.numerator,
            self.denominator + other.denominator,
            self.numerator_squares + other.numerator_squares,
            self.denominator_squares + other.denominator_squares,
            self.products + other.products,
            self.proportion and other.proportion,
        )

    @property
    def rate(self) -> float:
        """Σ numerators / Σ denominators; 0 where nothing was counted."""
        return self.numerator / self.denominator if self.denominator else 0.0

    @property
    def variance(self) -> float:
        """Of the rate, by the delta method: Deng, Knoblich and Lu, "Applying the delta method in metric analytics" (KDD
        2018). It is the variance of what clusters differ by from the rate, over the mean denominator squared. 0 where
        there are fewer than 2 clusters.
        """
        if self.clusters < 2 or not self.denominator:
            return 0.0
        rate = self.rate
        residuals = self.numerator_squares - 2 * rate * self.products + rate * rate * self.denominator_squares
        # Rounding may leave less than nothing, where all clusters have the same rate.
        return max(residuals, 0.0) * self.clusters / (self.clusters - 1) / self.denominator**2

    @property
    def effective_clusters(self) -> float:
        """How many clusters of equal denominators would be as good: Kish, "Survey Sampling" (1965)."""
        return self.denominator**2 / self.denominator_squares if self.denominator_squares else 0.0


@dataclass
class Clusters:
    """Sums by bucket of one metric in one arm. Its owner guards it with a lock.

    Attributes:
        numerators, denominators: one number a bucket.
        proportion: that each observation was 0 to 1, like an error or a click.
    """

    numerators: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    denominators: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    proportion: bool = True

    def add(self, bucket: int, value: float) -> None:
        """One observation: 1 or 0 for an error or none, or the value of a metric."""
        self.numerators[bucket] += value
        self.denominators[bucket] += 1
        if not 0 <= value <= 1:
            self.proportion = False

    def add_sum(self, bucket: int, total: float, count: int, bounds: tuple[float, float]) -> None:
        """As many observations, by their sum, and the least and the largest of them."""
        self.numerators[bucket] += total
        self.denominators[bucket] += count
        self.proportion &= bounds[0] >= 0 and bounds[1] <= 1

    def merge(self, other: "Clusters") -> None:
        self.numerators = [mine + its for mine, its in zip(self.numerators, other.numerators, strict=True)]
        self.denominators = [mine + its for mine, its in zip(self.denominators, other.denominators, strict=True)]
        self.proportion = self.proportion and other.proportion

    @property
    def moments(self) -> Moments:
        """Over the buckets that have anything in them."""
        seen = [bucket for bucket in range(BUCKETS) if self.denominators[bucket]]
        sums = Moments.of([self.numerators[bucket] for bucket in seen], [self.denominators[bucket] for bucket in seen])
        return sums if self.proportion else replace(sums, proportion=False)

    def to_json(self) -> dict[str, Any]:
        """`sums` has bucket, numerator and denominator in turn, of the buckets that have anything in them."""
        seen = [bucket for bucket in range(BUCKETS) if self.denominators[bucket]]
        sums = [number for bucket in seen for number in (bucket, self.numerators[bucket], self.denominators[bucket])]
        return {"proportion": self.proportion, "sums": sums}

    @classmethod
    def from_json(cls, counted: Mapping[str, Any]) -> "Clusters":
        clusters = cls(proportion=counted["proportion"])
        flat = iter(counted["sums"])
        for bucket, numerator, denominator in zip(flat, flat, flat, strict=True):
            clusters.numerators[int(bucket)] = numerator
            clusters.denominators[int(bucket)] = denominator
        return clusters
