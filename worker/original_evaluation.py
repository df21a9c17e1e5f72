"""What the original is by itself: batching, its accuracy on held-out samples, and its latency."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.engines import LoadedModel
from worker.evaluation.alone import Alone, assess
from worker.evaluation.batching import Batching, check_batching
from worker.evaluation.latency import LatencyAlone, measure_alone
from worker.evaluation.padding import sequence_inputs
from worker.evaluation.transcript import Transcript
from worker.job_inputs import JobInputs
from worker.job_progress import HELDOUT_END, part_of_evaluation
from worker.methods import Progress
from worker.samples import Feeder
from worker.variant_evaluation import NO_DATASET, batching_samples


@dataclass(frozen=True)
class OriginalEvaluation:
    """`alone` is what held-out samples tell, `batch` at a time; None without a dataset."""

    batching: Batching
    alone: Alone | None
    batch: int | None
    latency: LatencyAlone
    confusion: Mapping[str, Any] | None

    @property
    def notes(self) -> list[str]:
        no_dataset = NO_DATASET if self.alone is None else None
        notes = (no_dataset, self.batching.invariance.note, self.batching.padding.note)
        return [note for note in notes if note is not None]


def evaluate_original(inputs: JobInputs, progress: Progress) -> OriginalEvaluation:
    """Measure the original, beside no variant."""
    progress("evaluate", 0.0)
    axes = sequence_inputs(inputs.source)
    original = inputs.load_original()
    requests = inputs.requests(original)
    batching = check_batching(original, original, batching_samples(inputs, original, requests, axes))
    transcript = Transcript()
    alone, batch = _assess(inputs, batching, original, progress, transcript)
    latency = measure_alone(original, requests, progress=part_of_evaluation(progress, HELDOUT_END, 1.0))
    return OriginalEvaluation(batching, alone, batch, latency, transcript.confusion(inputs.class_names))


def _assess(
    inputs: JobInputs, batching: Batching, original: LoadedModel, progress: Progress, transcript: Transcript
) -> tuple[Alone | None, int | None]:
    if inputs.dataset is None:
        return None, None
    samples = inputs.dataset.samples
    feeder = Feeder(original.inputs, samples.arrays)
    batch = batching.batch(feeder)
    alone = assess(
        original,
        feeder,
        inputs.dataset.split.evaluation,
        samples.labels,
        batch=batch,
        progress=part_of_evaluation(progress, 0.0, HELDOUT_END),
        transcript=transcript,
    )
    return alone, batch
