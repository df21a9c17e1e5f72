"""Which samples calibrate and which judge: never the same."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.samples import Indices


@dataclass(frozen=True)
class Split:
    """Disjoint indices of samples, in a random order that `seed` fixes."""

    seed: int
    samples: int
    calibration: Indices
    evaluation: Indices

    def as_json(self) -> dict[str, Any]:
        """Enough to make the same split again, and to see that it is the same."""
        return {
            "seed": self.seed,
            "samples": self.samples,
            "calibration_samples": len(self.calibration),
            "calibration_digest": _digest(self.calibration),
            "evaluation_samples": len(self.evaluation),
            "evaluation_digest": _digest(self.evaluation),
        }


def split(samples: int, *, seed: int, calibration_samples: int, evaluation_samples: int) -> Split:
    """At most `calibration_samples`, and at most half, calibrate; of the rest, `evaluation_samples` judge.

    The two parts are taken from opposite ends of one order, so that in a large dataset variants are judged on the
    same samples however many calibrated them.
    """
    order = np.random.default_rng(seed).permutation(samples)
    calibration = order[: min(calibration_samples, samples // 2)]
    evaluation = order[len(calibration) :][::-1][:evaluation_samples]
    return Split(seed, samples, calibration, evaluation)


def _digest(indices: Indices) -> str:
    return hashlib.sha256(np.ascontiguousarray(indices, dtype="<i8").tobytes()).hexdigest()
