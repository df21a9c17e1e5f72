"""Top-1 accuracy on labels."""

from worker.evaluation.metrics.metric import AnswerBatch, Breach, Figure, Metric, Subject, allowed
from worker.evaluation.share import Share
from worker.evaluation.statistics import SIGNIFICANT, PairedTest, paired_test

# What a search believes of answers that turned right or wrong before it has seen one.
_PRIOR_TURNED, _PRIOR_WRONG = 20.0, 12.0


class Accuracy(Metric):
    """The share of samples whose top-1 is their label.

    `lost` samples only the original classes right, `gained` ones only the variant.
    """

    name = "accuracy"
    unit = "share"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.original, self.variant = Share(), Share()
        self.lost, self.gained = 0, 0

    @classmethod
    def applies_to(cls, subject: Subject) -> bool:
        return subject.class_labels is not None

    def add(self, batch: AnswerBatch) -> None:
        truth = batch.labels
        assert truth is not None, "accuracy applies where there are labels"
        self.original.add(batch.original_classes, truth)
        if self.subject.has_variant:
            left, right = batch.original_classes == truth, batch.variant_classes == truth
            self.variant.add(batch.variant_classes, truth)
            self.lost += int((left & ~right).sum())
            self.gained += int((~left & right).sum())

    def figure(self) -> Figure:
        paired = self.paired_test
        if paired is None:
            return Figure(self.original.value, None)
        return Figure(self.original.value, self.variant.value, paired.low_points / 100, paired.high_points / 100)

    @property
    def paired_test(self) -> PairedTest | None:
        """Of the original against the variant; None where there is no variant."""
        return paired_test(self.lost, self.gained, self.variant.rows) if self.variant.rows else None

    def breach(self, max_drop: float) -> Breach | None:
        before, after, paired = self.original.value, self.variant.value, self.paired_test
        if before is None or after is None or paired is None:
            return None
        drop = 1.0 - after / before if before > 0.0 else 0.0
        if drop <= max_drop:
            return None
        # Only a loss is of interest, so one side of the test is: half of its p-value.
        return Breach(
            f"top-1 fell from {before:.2%} to {after:.2%}, by {drop:.2%} of what it was; {allowed(max_drop)};"
            f" {paired.in_words}",
            is_sure=max_drop == 0.0 or paired.p_value / 2 < SIGNIFICANT,
        )

    def expected_drop(self) -> float | None:
        """The net loss, shrunk towards what was seen of quantized models at large.

        Many trials are made and the best is taken, so that the net loss on the samples at hand would flatter it. Of
        answers that turned right or wrong, three in five turned wrong (the mean of a Beta posterior, of a prior worth
        20 such answers).
        """
        before = self.original.value
        if not before or not self.variant.rows:
            return None
        turned = self.lost + self.gained
        wrong = (self.lost + _PRIOR_WRONG) / (turned + _PRIOR_TURNED)
        return turned * (2.0 * wrong - 1.0) / self.variant.rows / before
