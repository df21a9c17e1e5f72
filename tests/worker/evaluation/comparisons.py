"""Comparisons for tests of what judges them: metrics with given figures, without running a model."""

import numpy as np

from app.engines.classes import ClassOutput
from worker.evaluation.fidelity import MeanCosine
from worker.evaluation.heldout import Comparison
from worker.evaluation.metrics import Metric, Subject
from worker.evaluation.metrics.accuracy import Accuracy
from worker.evaluation.metrics.agreement import Agreement
from worker.evaluation.metrics.cosine import Cosine
from worker.evaluation.share import Share

_CLASSES = ClassOutput(0, 2)
_LABELS = np.zeros(1, np.int64)


def comparison(
    *,
    samples: int = 1000,
    original: float | None = None,
    variant: float | None = None,
    lost: int = 0,
    gained: int = 0,
    agreement: float | None = None,
    cosine: float | None = None,
) -> Comparison:
    """Of models whose accuracies are `original` and `variant`: without them there are no labels, and without
    `agreement` there are no classes.
    """
    has_labels, has_classes = original is not None, agreement is not None
    subject = Subject(("y",), _CLASSES if has_classes else None, _LABELS if has_labels else None)
    metrics: list[Metric] = []
    if original is not None and variant is not None:
        accuracy = Accuracy(subject)
        accuracy.original, accuracy.variant = _share(original, samples), _share(variant, samples)
        accuracy.lost, accuracy.gained = lost, gained
        metrics.append(accuracy)
    if agreement is not None:
        same = Agreement(subject)
        same.same = _share(agreement, samples)
        metrics.append(same)
    if cosine is not None:
        mean = Cosine(subject)
        mean.means["y"] = MeanCosine(cosine * samples, samples)
        metrics.append(mean)
    return Comparison(samples, ("y",), tuple(metrics), ())


def _share(value: float, samples: int) -> Share:
    return Share(round(value * samples), samples)
