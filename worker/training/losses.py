"""How far the answers of a model in training are from those that it is to give."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Distillation softens classes by this much (Hinton et al., Distilling the Knowledge in a Neural Network, 2015).
_TEMPERATURE = 4.0

_SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Loss:
    """`classes` is the position of the output `(samples, classes)` that holds scores, if one does.

    `are_probabilities`: it holds these rather than logits. `powers` are the variances of the FP32 model's outputs, None
    for those that are not compared. `label_weight` is the part of cross-entropy where samples have labels.
    """

    classes: int | None
    are_probabilities: bool
    powers: tuple[float | None, ...]
    label_weight: float = 0.02

    def of(self, answers: Sequence[Tensor], expected: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """A scalar: the relative squared error of all outputs and, of scores, the divergence when softened."""
        total = torch.zeros(())
        for position, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
            power = self.powers[position]
            if power is None:
                continue
            total = total + (answer - wanted).square().mean() / power
            if position == self.classes:
                scores, teacher = self._logits(answer), self._logits(wanted)
                divergence = functional.kl_div(
                    functional.log_softmax(scores / _TEMPERATURE, dim=1),
                    functional.log_softmax(teacher / _TEMPERATURE, dim=1),
                    reduction="batchmean",
                    log_target=True,
                )
                total = total + _TEMPERATURE**2 * divergence
                if labels is not None:
                    total = total + self.label_weight * functional.cross_entropy(scores, labels)
        return total

    def _logits(self, scores: Tensor) -> Tensor:
        return torch.log(scores.clamp_min(_SMALLEST_PROBABILITY)) if self.are_probabilities else scores
