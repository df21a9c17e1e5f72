"""How a training is to go, and how it went."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.samples import Feeder, Indices


@dataclass(frozen=True)
class Schedule:
    """`epochs` of steps of `batch_size` samples, at most `max_seconds`; the learning rate falls along a cosine."""

    epochs: int
    learning_rate: float
    batch_size: int
    max_seconds: float
    seed: int


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean losses on samples trained on and held out, and how many of these it got right.

    `agreement` is the share of held-out samples whose top-1 is that of the FP32 original; None without classes.
    """

    epoch: int
    training_loss: float | None
    validation_loss: float
    agreement: float | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Now:
    """How training goes: for those who wait. `share` of it is done, by steps or by time, whichever is further."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    last: Epoch
    share: float
    eta_seconds: float


@dataclass(frozen=True)
class Samples:
    """What is trained on, and what is held out to tell when to stop. `labels` are those of all samples, if any."""

    feeder: Feeder
    training: Indices
    validation: Indices
    labels: NDArray[np.int64] | None


@dataclass
class Trained:
    """The history, epoch 0 being the state before; `best` is the epoch whose state the module is left in."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    stopped: str = "all epochs done"
