"""Which requests of a variant may share a batch: of equal shapes, and of sequences padded to one length."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.engines import LoadedModel
from worker.evaluation.invariance import Invariance, check_invariance, invariance_rows, varied
from worker.evaluation.padding import Axes, Padding, check_padding, made_up_sequences
from worker.samples import Feeder, Feeds


@dataclass(frozen=True)
class Batching:
    """Whether a request's answer depends on the requests that share its batch, and on padding."""

    invariance: Invariance
    padding: Padding

    def batch(self, feeder: Feeder) -> int:
        """The samples of a batch in evaluation; a model whose answers depend on the batch gets one at a time."""
        return feeder.fixed_batch or (feeder.natural_batch if self.invariance.batchable else 1)


@dataclass(frozen=True)
class BatchingSamples:
    """Requests that batching is checked on. `axes` are the inputs that hold sequences."""

    rows: Sequence[Feeds]
    sequences: Sequence[Feeds]
    axes: Axes

    @classmethod
    def of_dataset(cls, requests: Sequence[Feeds], axes: Axes) -> "BatchingSamples":
        return cls(requests, requests, axes)

    @classmethod
    def made_up(cls, original: LoadedModel, request: Feeds, axes: Axes, *, seed: int) -> "BatchingSamples":
        """Vary one made-up `request`, where there is no dataset."""
        rows = varied(original, request, seed=seed)
        return cls(rows, made_up_sequences(rows, axes), axes)


def check_batching(original: LoadedModel, variant: LoadedModel, samples: BatchingSamples) -> Batching:
    """Run both models on batches of `samples`. Only a model that may be batched is ever padded."""
    invariance = _invariance(original, variant, samples.rows)
    if not invariance.batchable:
        return Batching(invariance, Padding(None))
    return Batching(invariance, check_padding(original, variant, samples.axes, samples.sequences))


def _invariance(original: LoadedModel, variant: LoadedModel, rows: Sequence[Feeds]) -> Invariance:
    fixed = Feeder(original.inputs, rows[0]).fixed_batch
    if fixed is not None:
        return Invariance(False, f"the model takes batches of {fixed} and no other: requests are not batched together")
    return check_invariance(original, variant, invariance_rows(rows))
