"""What was counted of one arm: all that results are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.experiments.moments import Moments
from app.experiments.pairs import Pairs
from app.experiments.sketch import Latencies


@dataclass(frozen=True)
class Evidence:
    """What was counted of one arm.

    Attributes:
        errors: a numerator of failed requests, a denominator of all.
        latency: of answered requests.
        outcomes: by name, what clients report.
        pairs: with the control, where a shadow answered the same requests.
    """

    variant: str
    errors: Moments = field(default_factory=Moments)
    latency: Latencies = field(default_factory=Latencies)
    outcomes: Mapping[str, Moments] = field(default_factory=dict)
    pairs: Pairs = field(default_factory=Pairs)
