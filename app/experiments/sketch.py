"""Quantiles of any number of values in little memory, wrong by 1% at most; sketches of parts add up to that of the
whole.

The values are counted in classes whose bounds grow by 2%: DDSketch, by Masson, Rim and Lee ("DDSketch: a fast and
fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019). From 1 µs to 1 h there are 1,100 classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor, fsum, log, sqrt

#: A quantile is off by this part of itself at most.
RELATIVE_ERROR = 0.01

#: Buckets of units are put together to so many groups. Few, since each has a sketch; enough to see how units differ.
GROUPS = 32

# Bounds of classes are powers of this (section 2.1 of the paper).
_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / log(_GROWTH)


@dataclass
class Sketch:
    """How many values fell into which class. Values are whole nanoseconds, or anything else of 1 or more; what is less
    counts as 1. Its owner guards it with a lock.
    """

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, value: float) -> None:
        index = ceil(log(value) * _PER_LOG) if value > 1 else 0  # `_index`, without the call
        self.counts[index] = self.counts.get(index, 0) + 1

    def merge(self, other: "Sketch") -> None:
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def below(self, value: float) -> int:
        """How many values are in the class of `value`, or below."""
        index = _index(value)
        return sum(count for each, count in self.counts.items() if each <= index)

    def quantile(self, q: float) -> float:
        """The value of rank ⌊q·(count - 1)⌋, within `RELATIVE_ERROR`. Raises ValueError where there is none."""
        return self.ranked([floor(q * (self.count - 1))])[0]

    def ranked(self, ranks: Sequence[int]) -> list[float]:
        """The values of these ranks, which ascend from 0. Raises ValueError where there is none of that rank."""
        values: list[float] = []
        below = 0
        for index in sorted(self.counts):
            below += self.counts[index]
            while len(values) < len(ranks) and ranks[len(values)] < below:
                values.append(_middle(index))
        if len(values) < len(ranks):
            raise ValueError(f"there is no value of rank {ranks[len(values)]} among {below}")
        return values

    @property
    def log_deviation(self) -> float:
        """The standard deviation of the values' natural logarithms; 0 where there are none."""
        count = self.count
        if not count:
            return 0.0
        mean = fsum(index * many for index, many in self.counts.items()) / count
        spread = fsum((index - mean) ** 2 * many for index, many in self.counts.items())
        return sqrt(spread / count) / _PER_LOG

    def to_json(self) -> list[int]:
        """Class and count in turn, by class."""
        return [number for index in sorted(self.counts) for number in (index, self.counts[index])]

    @classmethod
    def from_json(cls, numbers: Sequence[int]) -> "Sketch":
        return cls(dict(zip(numbers[::2], numbers[1::2], strict=True)))


@dataclass
class Latencies:
    """Latencies of one arm, by `GROUPS` groups of units, from which one sees how much units differ. Its owner guards it
    with a lock.
    """

    groups: list[Sketch] = field(default_factory=lambda: [Sketch() for _ in range(GROUPS)])

    def add(self, bucket: int, ns: int) -> None:
        """A request of a unit in this bucket (`assignment.Place`) took so long."""
        self.groups[bucket % GROUPS].add(ns)

    def merge(self, other: "Latencies") -> None:
        for mine, its in zip(self.groups, other.groups, strict=True):
            mine.merge(its)

    @property
    def total(self) -> Sketch:
        """All of them in one sketch, of its own."""
        total = Sketch()
        for group in self.groups:
            total.merge(group)
        return total

    def to_json(self) -> list[list[int]]:
        return [group.to_json() for group in self.groups]

    @classmethod
    def from_json(cls, groups: Sequence[Sequence[int]]) -> "Latencies":
        return cls([Sketch.from_json(numbers) for numbers in groups])


def _index(value: float) -> int:
    return ceil(log(value) * _PER_LOG) if value > 1 else 0


def _middle(index: int) -> float:
    """As far, relatively, from the lower bound of the class as from the upper (section 2.1 of the paper)."""
    return float(2 * _GROWTH**index / (_GROWTH + 1))
