"""How many units there were in which arm, and in more than one: exact for 65,536 of them, and from a sample beyond."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

#: So many units are remembered; of more, half of them, and so on.
LIMIT = 65_536

_KEY_BITS = 63


@dataclass
class Units:
    """The arms that each unit was in, by the unit's key (`assignment.Place.key`), as bits. Its owner guards it with a
    lock.

    At level n, the units are remembered whose key begins with n zeros: a random half for each level, of every arm
    alike, and the same half in every process. So samples add up to that of the whole, and their counts may be tested
    like those of all units. Source of the method: Gibbons, "Distinct sampling for highly-accurate answers to distinct
    values queries and event reports" (VLDB 2001).
    """

    level: int = 0
    arms: dict[int, int] = field(default_factory=dict)

    def add(self, key: int, arm: int) -> bool:
        """Unit `key` was in the arm of that index. Whether this is new, and remembered."""
        before = self.arms.get(key, 0)
        after = before | 1 << arm
        if after == before or key >> (_KEY_BITS - self.level):
            return False
        self.arms[key] = after
        if len(self.arms) > LIMIT:
            self._thin(self.level + 1)
        return key in self.arms

    def merge(self, other: "Units") -> None:
        self._thin(max(self.level, other.level))
        for key, arms in other.arms.items():
            if not key >> (_KEY_BITS - self.level):
                self.arms[key] = self.arms.get(key, 0) | arms
        while len(self.arms) > LIMIT:
            self._thin(self.level + 1)

    def remembered(self, arm: int) -> int:
        """How many of the remembered units were in the arm of that index: what the sample ratio is tested on."""
        return sum(arms >> arm & 1 for arms in self.arms.values())

    def count(self, arm: int) -> int:
        """How many units were in the arm of that index, about."""
        return self.remembered(arm) << self.level

    def was_in(self, key: int, arm: int) -> bool | None:
        """Whether unit `key` was in the arm of that index; None where it is none of those that are remembered."""
        if key >> (_KEY_BITS - self.level):
            return None
        return bool(self.arms.get(key, 0) >> arm & 1)

    @property
    def multiple_exposure_rate(self) -> float:
        """The part of all units that was in more than one arm; 0 where there are no units."""
        return sum(arms.bit_count() > 1 for arms in self.arms.values()) / len(self.arms) if self.arms else 0.0

    def to_json(self) -> dict[str, Any]:
        """`arms` has key and bits in turn."""
        return {"level": self.level, "arms": list(chain.from_iterable(self.arms.items()))}

    @classmethod
    def from_json(cls, remembered: Mapping[str, Any]) -> "Units":
        arms = remembered["arms"]
        return cls(remembered["level"], dict(zip(arms[::2], arms[1::2], strict=True)))

    def _thin(self, level: int) -> None:
        if level > self.level:
            self.level = level
            self.arms = dict(self._below(level))

    def _below(self, level: int) -> Iterator[tuple[int, int]]:
        return ((key, arms) for key, arms in self.arms.items() if not key >> (_KEY_BITS - level))
