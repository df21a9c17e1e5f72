"""Which variant to take, of those that were measured; a rule that can be said in a sentence.

Of the variants that kept to their budget and were compared on data, the fastest, if it is faster beyond noise. Of those
that are as fast within noise, the one that answers most like the original, then the smallest. Where none is faster, the
smallest of those that are not slower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from app.contracts.outcome import REJECTED
from app.registry.models import ORIGINAL

#: Less than this of the original's size is worth a change of variant.
_SMALLER = 0.95


class Measured(Protocol):
    """What a choice is made by: rows of the comparison have it."""

    @property
    def variant(self) -> str: ...
    @property
    def verdict(self) -> str | None: ...
    @property
    def size_ratio(self) -> float: ...
    @property
    def agreement(self) -> float | None: ...
    @property
    def cosine(self) -> float | None: ...
    @property
    def speedup(self) -> float | None: ...
    @property
    def speedup_low(self) -> float | None: ...
    @property
    def speedup_high(self) -> float | None: ...
    @property
    def samples(self) -> int | None: ...


RowT = TypeVar("RowT", bound=Measured)


@dataclass(frozen=True)
class Recommendation(Generic[RowT]):
    """`faster`: beyond noise; else it is only smaller. `rivals` are as fast within noise, and were not chosen."""

    row: RowT
    faster: bool
    rivals: Sequence[RowT]


def recommendation(rows: Sequence[RowT]) -> Recommendation[RowT] | None:
    """Of the variants of one revision; None where the original is what there is a reason for."""
    candidates = [row for row in rows if row.variant != ORIGINAL and row.verdict != REJECTED and row.samples]
    faster = [row for row in candidates if (row.speedup_low or 0.0) > 1.0]
    if faster:
        fastest = max(faster, key=lambda row: row.speedup or 0.0)
        level = [row for row in faster if (row.speedup_high or 0.0) >= (fastest.speedup_low or 0.0)]
        chosen = max(level, key=lambda row: (_likeness(row), -row.size_ratio))
        return Recommendation(chosen, True, [row for row in level if row is not chosen])
    smaller = [row for row in candidates if row.size_ratio < _SMALLER and (row.speedup_high or 0.0) >= 1.0]
    if smaller:
        return Recommendation(min(smaller, key=lambda row: (row.size_ratio, -_likeness(row))), False, [])
    return None


def _likeness(row: Measured) -> float:
    """How often it answers as the original does or, for models without a top-1, how close its outputs are."""
    return next((value for value in (row.agreement, row.cosine) if value is not None), 0.0)
