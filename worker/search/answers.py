"""The upload's answers, remembered, so that many candidates can be compared with them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.engines import Engine, LoadedModel
from app.engines.classes import Classes
from app.engines.engine import Array
from worker.evaluation.heldout import Comparison, compare
from worker.samples import Feeder, Indices

# Answers of more bytes are computed again each time.
_REMEMBERED_BYTES = 2**28

#: So few samples do not tell much, and fewer tell nothing.
FEWEST = 64


class Answers:
    """What the model at `original` answers to the samples of `arrays` at `indices`.

    Of these only as many as it answers in `seconds`, and at least `FEWEST`: every candidate has to answer them too.
    """

    def __init__(
        self,
        original: Path,
        arrays: Mapping[str, Array],
        indices: Indices,
        labels: Classes | None,
        *,
        engine: Engine,
        threads: int,
        seconds: float,
    ) -> None:
        self.model: LoadedModel = engine.load(original, intra_op_threads=threads)
        self.feeder = Feeder(self.model.inputs, arrays)
        self._indices = indices
        self._labels = labels
        self._engine = engine
        self._threads = threads
        self._answers = self._remembered(seconds)

    @property
    def samples(self) -> int:
        return len(self._indices)

    def _remembered(self, seconds: float) -> list[list[Array]] | None:
        answers: list[list[Array]] = []
        asked, size = 0, 0
        begun = time.monotonic()
        for batch in self.feeder.batches(self._indices):
            answer = self.model.run(batch.feeds)
            asked += len(batch)
            size += sum(array.nbytes for array in answer)
            if size <= _REMEMBERED_BYTES:
                answers.append(answer)
            if asked >= FEWEST and time.monotonic() - begun > seconds:
                break
        self._indices = self._indices[:asked]
        return answers if size <= _REMEMBERED_BYTES else None

    def compared_with(self, candidate: Path, progress: Callable[[float], None] = lambda share: None) -> Comparison:
        """How the model at `candidate` answers them; raises `JobFailed` where it does so with NaN or infinity."""
        model = self._engine.load(candidate, intra_op_threads=self._threads)
        original = self.model if self._answers is None else _Replay(self.model, self._answers)
        return compare(original, model, self.feeder, self._indices, self._labels, batch=None, progress=progress)


class _Replay:
    """Stands in for a model that is asked the same again, in the same order."""

    def __init__(self, model: LoadedModel, answers: Sequence[list[Array]]) -> None:
        self.inputs, self.outputs = model.inputs, model.outputs
        self._next = iter(answers)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        return next(self._next)
