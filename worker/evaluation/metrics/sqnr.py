"""Signal-to-quantization-noise ratio of the outputs."""

from worker.evaluation.fidelity import SignalAndNoise, finite_or_none
from worker.evaluation.metrics.metric import AnswerBatch, Figure, Metric, Subject


class Sqnr(Metric):
    """The ratio in decibels over all outputs that can be compared; None where both models answer the same."""

    name = "sqnr_db"
    unit = "dB"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        # None is an output that cannot be compared.
        self.sums: dict[str, SignalAndNoise | None] = {name: SignalAndNoise() for name in subject.outputs}

    def add(self, batch: AnswerBatch) -> None:
        for output in batch.outputs:
            sums = self.sums[output.name]
            if output.variant is None or not output.is_comparable:
                self.sums[output.name] = None
            elif sums is not None:
                sums.add(output.original, output.variant)

    def figure(self) -> Figure:
        comparable = [sums for sums in self.sums.values() if sums is not None]
        together = SignalAndNoise()
        for sums in comparable:
            together.join(sums)
        return Figure(
            None,
            finite_or_none(together.sqnr_db) if comparable else None,
            by_output={
                name: finite_or_none(sums.sqnr_db) if sums is not None else None for name, sums in self.sums.items()
            },
        )
