"""Agreement of the variant's top-1 with the original's."""

from worker.evaluation.metrics.metric import AnswerBatch, Breach, Figure, Metric, Subject, allowed
from worker.evaluation.share import Share
from worker.evaluation.statistics import QUANTILE_90, wilson_interval


class Agreement(Metric):
    """The share of samples whose top-1 is the original's. It decides where there are no labels to judge by."""

    name = "agreement"
    unit = "share"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.same = Share()

    @classmethod
    def applies_to(cls, subject: Subject) -> bool:
        return subject.has_variant and subject.class_output is not None

    def add(self, batch: AnswerBatch) -> None:
        self.same.add(batch.original_classes, batch.variant_classes)

    def figure(self) -> Figure:
        share = self.same.value
        if share is None:
            return Figure(None, None)
        return Figure(None, share, *wilson_interval(share, self.same.rows))

    def breach(self, max_drop: float) -> Breach | None:
        drop = self.expected_drop()
        if drop is None or drop <= max_drop or self.subject.class_labels is not None:
            return None
        return Breach(
            f"the top-1 of {drop:.2%} of {self.same.rows} held-out samples changed, and without labels all"
            f" of that may be loss; {allowed(max_drop)}",
            is_sure=max_drop == 0.0 or wilson_interval(drop, self.same.rows, QUANTILE_90)[0] > max_drop,
        )

    def expected_drop(self) -> float | None:
        """Every top-1 that changed counts as lost."""
        return 1.0 - self.same.value if self.same.value is not None else None
