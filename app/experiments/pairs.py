"""What is counted of requests that the control and a shadow of it have both answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import log
from typing import Any

from app.experiments.sketch import Sketch

#: Sketches hold numbers of 1 and more; ratios are counted in millionths.
MILLION = 1_000_000


@dataclass
class Pairs:
    """Sums over pairs of one variant and the control. Its owner guards it with a lock.

    Attributes:
        count: pairs.
        compared, disagreements: those whose answers have a top-1, and those where it differs.
        cosines, cosine: those whose answers have an angle, and the sum of the angles' cosines.
        max_abs_difference: the largest there was between any two outputs.
        ratios: time of the control over that of the variant, in millionths.
        log_ratio, log_ratio_squares: sums of its natural logarithm, and of the squares of that.
        labelled, control_only, variant_only: pairs whose right answer is known, and where one alone gave it.
    """

    count: int = 0
    compared: int = 0
    disagreements: int = 0
    cosines: int = 0
    cosine: float = 0.0
    max_abs_difference: float = 0.0
    ratios: Sketch = field(default_factory=Sketch)
    log_ratio: float = 0.0
    log_ratio_squares: float = 0.0
    labelled: int = 0
    control_only: int = 0
    variant_only: int = 0

    def add(
        self, *, control_ns: int, variant_ns: int, agree: bool | None, cosine: float | None, max_abs_difference: float
    ) -> None:
        """One pair. `agree` is None where answers have no top-1, `cosine` where they are no vectors, or null ones."""
        self.count += 1
        if agree is not None:
            self.compared += 1
            self.disagreements += not agree
        if cosine is not None:
            self.cosines += 1
            self.cosine += cosine
        self.max_abs_difference = max(self.max_abs_difference, max_abs_difference)
        ratio = max(control_ns, 1) / max(variant_ns, 1)
        self.ratios.add(ratio * MILLION)
        self.log_ratio += log(ratio)
        self.log_ratio_squares += log(ratio) ** 2

    def add_labels(self, labelled: int, control_only: int, variant_only: int) -> None:
        """The right answers to as many pairs became known; to some of them, one of the two alone gave it."""
        self.labelled += labelled
        self.control_only += control_only
        self.variant_only += variant_only

    def merge(self, other: "Pairs") -> None:
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.max_abs_difference = max(self.max_abs_difference, other.max_abs_difference)
        self.ratios.merge(other.ratios)

    @property
    def mean_cosine(self) -> float | None:
        return self.cosine / self.cosines if self.cosines else None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ratios": self.ratios.to_json()}

    @classmethod
    def from_json(cls, sums: Mapping[str, Any]) -> "Pairs":
        return cls(**{**sums, "ratios": Sketch.from_json(sums["ratios"])})


_SUMS = tuple(each.name for each in fields(Pairs) if each.name not in ("max_abs_difference", "ratios"))
