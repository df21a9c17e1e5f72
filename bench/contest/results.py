"""What was measured, and how it is shown: medians over rounds, with the lowest and the highest."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from contest.load import Turn


@dataclass(frozen=True)
class Measurement:
    """One turn of one contender, with the floor measured beside it."""

    case: str
    model: str
    contender: str
    concurrency: int
    round: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_second: float
    floor_p50_ms: float
    floor_per_second: float
    errors: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, case: str, model: str, contender: str, concurrency: int, round: int, turn: Turn, floor: Turn
    ) -> "Measurement":
        p50, p95, p99 = (turn.percentile_ms(share) for share in (50, 95, 99))
        base, rate = floor.percentile_ms(50), floor.per_second
        return cls(case, model, contender, concurrency, round, p50, p95, p99, turn.per_second, base, rate, turn.errors)

    @property
    def above_floor_ms(self) -> float:
        return self.p50_ms - self.floor_p50_ms

    @property
    def of_floor(self) -> float:
        return self.per_second / self.floor_per_second if self.floor_per_second else math.nan


@dataclass(frozen=True)
class Spread:
    """Over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        known = [value for value in values if not math.isnan(value)] or [math.nan]
        return cls(statistics.median(known), min(known), max(known))

    def shown(self, form: str) -> str:
        return f"{self.median:{form}} [{self.low:{form}}, {self.high:{form}}]"


Key = Callable[[Measurement], float]


@dataclass(frozen=True)
class Results:
    measurements: Sequence[Measurement]

    def of(self, case: str, contender: str, concurrency: int) -> list[Measurement]:
        return [
            each
            for each in self.measurements
            if (each.case, each.contender, each.concurrency) == (case, contender, concurrency)
        ]

    def spread(self, case: str, contender: str, concurrency: int, key: Key) -> Spread:
        return Spread.of(map(key, self.of(case, contender, concurrency)))

    def lead(self, case: str, contender: str, concurrency: int, leader: str) -> Spread | None:
        """How many times the requests of `contender` the leader answered, in each round."""
        pairs = zip(self.of(case, leader, concurrency), self.of(case, contender, concurrency), strict=False)
        ratios = [first.per_second / other.per_second for first, other in pairs if other.per_second]
        return Spread.of(ratios) if ratios else None

    def distinct(self, key: Callable[[Measurement], str]) -> list[str]:
        return list(dict.fromkeys(map(key, self.measurements)))

    def first_of(self, model: str) -> str | None:
        """The first case of a model."""
        return next((each.case for each in self.measurements if each.model == model), None)

    def table(self, case: str, leader: str) -> list[str]:
        """Markdown: latencies with one connection, and what is answered a second with all others."""
        here = [each for each in self.measurements if each.case == case]
        concurrencies = sorted({each.concurrency for each in here})
        alone, joint = [c for c in concurrencies if c == 1], [c for c in concurrencies if c > 1]
        columns = ["server", *(["1: p50 / p95 / p99 ms", "above the floor, ms"] if alone else [])]
        for concurrency in joint:
            columns += [f"{concurrency}: req/s", "p50 / p99 ms", "of the floor", f"{leader} is ahead"]
        lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        for contender in dict.fromkeys(each.contender for each in here):
            cells = [f"**{contender}**" if contender == leader else contender]
            cells += [cell for _ in alone for cell in self._alone(case, contender)]
            cells += [cell for concurrency in joint for cell in self._joint(case, contender, concurrency, leader)]
            lines.append("| " + " | ".join(cells) + " |")
        return lines

    def _alone(self, case: str, contender: str) -> list[str]:
        latencies = [
            self.spread(case, contender, 1, key).median
            for key in (lambda m: m.p50_ms, lambda m: m.p95_ms, lambda m: m.p99_ms)
        ]
        above = self.spread(case, contender, 1, lambda m: m.above_floor_ms)
        return [" / ".join(f"{value:.2f}" for value in latencies), above.shown(".2f")]

    def _joint(self, case: str, contender: str, concurrency: int, leader: str) -> list[str]:
        rate = self.spread(case, contender, concurrency, lambda m: m.per_second)
        p50, p99 = (
            self.spread(case, contender, concurrency, key).median for key in (lambda m: m.p50_ms, lambda m: m.p99_ms)
        )
        share = self.spread(case, contender, concurrency, lambda m: m.of_floor)
        lead = None if contender == leader else self.lead(case, contender, concurrency, leader)
        ahead = "" if lead is None else f"{lead.median:.1f}x [{lead.low:.1f}, {lead.high:.1f}]"
        return [f"{rate.median:.0f}", f"{p50:.1f} / {p99:.1f}", share.shown(".2f"), ahead]
