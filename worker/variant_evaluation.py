"""What a new variant is worth beside its original: gate, batching, held-out samples, latency, and its inner tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.contracts.figures import LayerFigures
from app.engines import Engine, LoadedModel
from app.engines.cpu import usable_cores
from worker.calibration.activations import Activation, activations
from worker.evaluation import gate
from worker.evaluation.batching import Batching, BatchingSamples, check_batching
from worker.evaluation.coverage import Coverage, measure_coverage
from worker.evaluation.heldout import Comparison, compare
from worker.evaluation.latency import Latencies, is_slower, measure
from worker.evaluation.layers import compare_layers
from worker.evaluation.padding import Padding, check_padding, sequence_inputs
from worker.evaluation.portability import Saturation, predict_saturation
from worker.evaluation.profile import OperatorTime, compare_operators, in_words
from worker.evaluation.thumbnails import find_images
from worker.evaluation.transcript import Transcript
from worker.job_inputs import JobInputs
from worker.job_progress import HELDOUT_END, LATENCY_END, part_of_evaluation
from worker.methods import Made, Progress
from worker.samples import Feeder, Feeds

NO_DATASET = "no dataset: only latency is measured, on a made-up request; nothing is known of the model's accuracy"

_LAYER_SAMPLES = 16
_SATURATION_SAMPLES = 32


@dataclass(frozen=True)
class HeldOutEvaluation:
    """What held-out samples tell, `batch` at a time; nothing without a dataset. `sections` show single answers."""

    comparison: Comparison | None
    batch: int | None
    sections: Mapping[str, Any]


@dataclass(frozen=True)
class InnerTensors:
    """What is seen of the variant's inner tensors; nothing without a dataset."""

    layers: Sequence[LayerFigures] = ()
    activations: Sequence[Activation] = ()
    coverage: Coverage | None = None
    saturation: Saturation | None = None


@dataclass(frozen=True)
class VariantEvaluation:
    """All that evaluation found out about a variant."""

    batching: Batching
    original_padding: Padding
    heldout: HeldOutEvaluation
    latencies: Latencies
    operators: Sequence[OperatorTime]
    inside: InnerTensors
    engine_notes: Sequence[str]

    @property
    def notes(self) -> Iterator[str]:
        if self.heldout.comparison is None:
            yield NO_DATASET
        if is_slower(self.latencies):
            words = in_words(self.operators)
            yield f"slower than the original on this machine: {self.latencies.speedup:.2f}x" + (
                f"; what costs it most: {words}" if words else ""
            )
        found = (self.batching.invariance, self.batching.padding, self.inside.coverage, self.inside.saturation)
        yield from (one.note for one in found if one is not None and one.note is not None)
        yield from self.engine_notes


def evaluate_variant(inputs: JobInputs, made: Made, progress: Progress) -> VariantEvaluation:
    """Compare the variant with its original.

    Raises:
        JobFailed: The variant is no substitute for the original.
    """
    progress("gate", 0.0)
    axes = sequence_inputs(inputs.source)
    # The variant first: to load it takes more memory for a moment than to load what is mapped.
    variant = gate.load_variant(made.artifact, engine=inputs.engine, intra_op_threads=inputs.spec.intra_op_threads)
    original = inputs.load_original()
    requests = inputs.requests(original)
    gate.check(original, variant, requests[0])
    samples = batching_samples(inputs, original, requests, axes)
    batching = check_batching(original, variant, samples)
    original_padding = check_padding(original, original, axes, samples.sequences)

    progress("evaluate", 0.0)
    heldout = _evaluate_heldout(inputs, batching, original, variant, progress)
    seconds = part_of_evaluation(progress, HELDOUT_END, LATENCY_END)
    latencies = measure(original, variant, requests, seed=inputs.seed, progress=seconds)
    # A large model's memory goes back before the graphs are loaded once more, all layers exposed.
    del original, variant
    operators = _slow_operators(inputs, made, latencies, requests)
    inside = _look_inside(inputs, made, progress)
    progress("evaluate", 1.0)
    notes = list(_engine_notes(inputs.engine, latencies))
    return VariantEvaluation(batching, original_padding, heldout, latencies, operators, inside, notes)


def batching_samples(
    inputs: JobInputs, original: LoadedModel, requests: Sequence[Feeds], axes: Mapping[str, int]
) -> BatchingSamples:
    if inputs.dataset is not None:
        return BatchingSamples.of_dataset(requests, axes)
    return BatchingSamples.made_up(original, requests[0], axes, seed=inputs.seed)


def _evaluate_heldout(
    inputs: JobInputs, batching: Batching, original: LoadedModel, variant: LoadedModel, progress: Progress
) -> HeldOutEvaluation:
    transcript = Transcript()
    comparison, batch, images = None, None, None
    if inputs.dataset is not None:
        samples = inputs.dataset.samples
        feeder = Feeder(original.inputs, samples.arrays)
        batch = batching.batch(feeder)
        comparison = compare(
            original,
            variant,
            feeder,
            inputs.dataset.split.evaluation,
            samples.labels,
            batch=batch,
            progress=part_of_evaluation(progress, 0.0, HELDOUT_END),
            transcript=transcript,
        )
        images = find_images(samples.arrays, [tensor.name for tensor in original.inputs])
    names = inputs.class_names
    sections = {"confusion": transcript.confusion(names), "answers": transcript.changes(names, images)}
    return HeldOutEvaluation(comparison, batch, sections)


def _slow_operators(
    inputs: JobInputs, made: Made, latencies: Latencies, requests: Sequence[Feeds]
) -> Sequence[OperatorTime]:
    """Where a variant that is slower than its original loses time, if the engine can tell."""
    if not is_slower(latencies) or not inputs.engine.can_profile:
        return []
    return compare_operators(
        inputs.source,
        made.artifact,
        requests,
        inputs.folder,
        engine=inputs.engine,
        intra_op_threads=inputs.spec.intra_op_threads,
    )


def _engine_notes(engine: Engine, latencies: Latencies) -> Iterator[str]:
    """What the report lacks since the engine cannot tell it."""
    if is_slower(latencies) and not engine.can_profile:
        yield f"engine '{engine.name}' does not measure single operators: what costs the variant most is not known"
    if not engine.saturates_pairs:
        yield (
            f"engine '{engine.name}' does not add products in 16 bits: no loss is predicted for CPUs without VNNI,"
            " where onnxruntime has some"
        )


def _look_inside(inputs: JobInputs, made: Made, progress: Progress) -> InnerTensors:
    if inputs.dataset is None:
        return InnerTensors()
    arrays, indices = inputs.dataset.samples.arrays, inputs.dataset.split.evaluation
    few, engine, threads = indices[:_LAYER_SAMPLES], inputs.engine, usable_cores()
    rest = part_of_evaluation(progress, LATENCY_END, 1.0)
    layers = compare_layers(made.reference, made.artifact, arrays, few, engine=engine, threads=threads, progress=rest)
    layers = [layer.model_copy(update={"repairs": list(made.repairs.get(layer.name, ()))}) for layer in layers]
    return InnerTensors(
        layers,
        activations(made.reference, made.artifact, made.ranges, made.histograms, layers),
        measure_coverage(made.reference, made.ranges, arrays, few, engine=engine, threads=threads),
        predict_saturation(made.artifact, arrays, indices[:_SATURATION_SAMPLES], engine=engine, threads=threads),
    )
