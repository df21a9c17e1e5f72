"""The evaluation metrics: one file each, and one row each in `METRICS`.

`CONTRIBUTING.md` shows how to add one.
"""

from worker.evaluation.metrics.accuracy import Accuracy
from worker.evaluation.metrics.agreement import Agreement
from worker.evaluation.metrics.cosine import Cosine
from worker.evaluation.metrics.metric import AnswerBatch, Breach, Figure, Metric, OutputBatch, Subject
from worker.evaluation.metrics.sqnr import Sqnr

#: In the order in which users see them. A search minimizes the loss that the first of them can tell.
METRICS: tuple[type[Metric], ...] = (
    Accuracy,
    Agreement,
    Cosine,
    Sqnr,
)


def metrics_for(subject: Subject) -> tuple[Metric, ...]:
    """Make one instance of each metric that applies to `subject`, in the order of the table."""
    return tuple(metric(subject) for metric in METRICS if metric.applies_to(subject))


__all__ = ["METRICS", "AnswerBatch", "Breach", "Figure", "Metric", "OutputBatch", "Subject", "metrics_for"]
