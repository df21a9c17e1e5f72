"""Which arm a unit gets: a pure function of the experiment's seed and the unit, the same in every process for ever.

Nothing is stored or looked up. The hash is BLAKE2b with the seed as its salt: 53 bits of it are a point in [0, 1), and
each arm owns a range of that line. GrowthBook's hash, FNV-1a cut down to 10,000 points, is made for SDKs in many
languages to agree; only gateways have to agree here.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from app.errors import Invalid

#: Units are counted in so many groups, by a part of the hash that has no say in their arm.
BUCKETS = 256


@dataclass(frozen=True)
class Arm:
    """A variant and its weight, relative to the weights of the others.

    A `stopped` arm gets no units. Unlike a weight of 0, that leaves everybody else where they are: its units are
    uncovered, not the control's, where they would be seen a second time.
    """

    variant: str
    weight: float
    control: bool = False
    stopped: bool = False


class Place(NamedTuple):
    """Where a unit belongs.

    Attributes:
        variant: None when the unit is not covered.
        bucket: 0 to `BUCKETS` - 1; does not depend on weights or coverage.
        key: 63 bits that stand for the unit in this experiment, and have no say in the others. Fits SQL's BIGINT.
    """

    variant: str | None
    bucket: int
    key: int


@dataclass(frozen=True)
class Split:
    """How the units of one experiment are split over its arms.

    On the line [0, 1), an arm's range begins where the weights of those before it end, and has `coverage` of the length
    that its weight is worth: 50/50 at coverage 0.4 is [0, 0.2) and [0.5, 0.7). More coverage moves no unit that is in;
    other weights do. Raises `Invalid` unless there are two arms or more of different names, one control, weights of 0
    to 1e9 that are not all 0, and a coverage of 0 to 1.
    """

    seed: str
    arms: tuple[Arm, ...]
    coverage: float = 1.0
    _starts: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _ends: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _salt: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.arms, self.coverage)
        total = sum(arm.weight for arm in self.arms)
        edges = [sum(arm.weight for arm in self.arms[:index]) / total for index in range(len(self.arms) + 1)]
        starts, stops = edges[:-1], edges[1:]
        ends = [
            start if arm.stopped else stop if self.coverage == 1 else start + self.coverage * (stop - start)
            for arm, start, stop in zip(self.arms, starts, stops, strict=True)
        ]
        object.__setattr__(self, "_starts", tuple(starts))
        object.__setattr__(self, "_ends", tuple(ends))
        object.__setattr__(self, "_salt", _salt(self.seed))

    @property
    def control(self) -> Arm:
        return next(arm for arm in self.arms if arm.control)

    @property
    def shares(self) -> dict[str, float]:
        """The part of all units that each variant gets; together the coverage, less what stopped arms leave."""
        return {arm.variant: end - start for arm, start, end in zip(self.arms, self._starts, self._ends, strict=True)}

    def arm(self, unit: str) -> str | None:
        """The variant that `unit` gets; None where it is not covered."""
        return self.place(unit).variant

    def place(self, unit: str) -> Place:
        """The variant, bucket and key of `unit`, from one hash."""
        encoded = unit.encode("utf-8", "surrogatepass")
        digest = blake2b(encoded, digest_size=17, salt=self._salt, person=b"octet.arm").digest()
        point = _point(digest)
        index = bisect_right(self._starts, point) - 1
        variant = self.arms[index].variant if point < self._ends[index] else None
        return Place(variant, digest[16], int.from_bytes(digest[8:16], "big") >> 1)


@dataclass(frozen=True)
class Sample:
    """Which requests a shadow takes: a part `rate` of them, by their ids.

    Independent of the split, and of the samples of other variants. A higher rate leaves none out that was in. Raises
    `Invalid` unless the rate is 0 to 1.
    """

    seed: str
    variant: str
    rate: float
    _salt: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise Invalid(f"a shadow takes a sample of 0 to 1 of the requests, not {self.rate}", field="shadow")
        object.__setattr__(self, "_salt", _salt(f"{self.variant}\0{self.seed}"))

    def takes(self, request_id: str) -> bool:
        encoded = request_id.encode("utf-8", "surrogatepass")
        return _point(blake2b(encoded, digest_size=8, salt=self._salt, person=b"octet.shadow").digest()) < self.rate


def _salt(seed: str) -> bytes:
    return blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=blake2b.SALT_SIZE).digest()


def _point(digest: bytes) -> float:
    # 53 bits are what a float holds; 64 of them would round up to 1.0 now and then, where no arm is.
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def _check(arms: Sequence[Arm], coverage: float) -> None:
    if len(arms) < 2:
        raise Invalid(f"an experiment needs two arms or more, and this one has {len(arms)}", field="arms")
    if len({arm.variant for arm in arms}) < len(arms):
        raise Invalid("each arm of an experiment needs a variant of its own", field="arms")
    controls = sum(arm.control for arm in arms)
    if controls != 1:
        raise Invalid(f"one arm is the control, the others are compared with it; {controls} say so here", field="arms")
    for arm in arms:
        if not 0 <= arm.weight <= 1e9:
            raise Invalid(f"the weight of '{arm.variant}' is {arm.weight}; weights are 0 to 1e9", field="arms")
    if not sum(arm.weight for arm in arms) > 0:
        raise Invalid("all arms have weight 0; at least one needs more", field="arms")
    if not 0 <= coverage <= 1:
        raise Invalid(f"coverage is {coverage}; it is a part of all units, 0 to 1", field="coverage")
