"""Cosine between the outputs of the variant and those of the original."""

from worker.evaluation.fidelity import MeanCosine
from worker.evaluation.metrics.metric import AnswerBatch, Breach, Figure, Metric, Subject, allowed


class Cosine(Metric):
    """The mean over samples, of the first output that can be compared. It decides where no output holds classes."""

    name = "cosine"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        # None is an output that cannot be compared.
        self.means: dict[str, MeanCosine | None] = {name: MeanCosine() for name in subject.outputs}

    def add(self, batch: AnswerBatch) -> None:
        for output in batch.outputs:
            mean = self.means[output.name]
            if output.variant is None or not output.is_comparable:
                self.means[output.name] = None
            elif mean is not None and output.has_rows:
                mean.add(output.original, output.variant)

    def figure(self) -> Figure:
        by_output = {name: mean.value if mean is not None else None for name, mean in self.means.items()}
        return Figure(None, self._value, by_output=by_output)

    @property
    def _value(self) -> float | None:
        return next((mean.value for mean in self.means.values() if mean is not None), None)

    def breach(self, max_drop: float) -> Breach | None:
        drop = self.expected_drop()
        if drop is None or drop <= max_drop or self.subject.class_output is not None:
            return None
        return Breach(f"the mean cosine with the original's output is {self._value:.4f}; {allowed(max_drop)}")

    def expected_drop(self) -> float | None:
        """What the mean cosine is short of 1."""
        return 1.0 - self._value if self._value is not None else None
