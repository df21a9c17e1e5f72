"""The integers that tensors are rounded to, as training starts from and ends with them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ActivationGrid:
    """The integers of an activation: 0 to `levels` - 1, of which `zero_point` stands for zero. `learned`: its scale."""

    scale: float
    zero_point: int
    levels: int
    learned: bool = True

    @classmethod
    def over(cls, low: float, high: float, levels: int, *, learned: bool = True) -> "ActivationGrid":
        """The grid over `low` ≤ 0 ≤ `high`, of which one is not zero."""
        scale = (high - low) / (levels - 1)
        return cls(scale, round(-low / scale), levels, learned)

    def bounds(self, scale: float) -> tuple[float, float]:
        """The values that the integers stand for at both ends when they have another `scale`."""
        return -self.zero_point * scale, (self.levels - 1 - self.zero_point) * scale


@dataclass(frozen=True)
class BiasGrid:
    """The integers of a bias are of 32 bits, and their scale the product of those of these two tensors."""

    activation: str
    weight: str


@dataclass(frozen=True)
class WeightGrid:
    """The integers of a weight: -`largest` to `largest`, of `scales`, `(channels,)` along `axis` or `(1,)` for all."""

    scales: NDArray[np.float32]
    axis: int
    largest: int
