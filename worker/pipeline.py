"""The steps of a job: prepare → calibrate → quantize → gate → evaluate.

`python -m worker.pipeline FOLDER` does the job that `FOLDER/job.json` describes, in a process of its own that knows
nothing but this folder. It leaves its artifact there. Standard output carries one JSON object a line: progress,
`{"stage": "calibrate", "progress": 0.35}`, and at last `{"outcome": {…}}` or, with exit code 1, `{"error": "…"}`.
"""

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.contracts.figures import Figures, LayerFigures
from app.contracts.job_spec import JobSpec
from app.contracts.methods import EVALUATE
from app.contracts.options import Int8Options
from app.contracts.outcome import Outcome
from app.engines import ENGINES, LoadedModel
from app.engines.cpu import this_cpu, usable_cores
from app.errors import OctetError
from app.intake.dataset_file import Samples, open_dataset
from worker import onnx_files
from worker.calibration.activations import Activation, activations
from worker.channel import Channel, claim_stdout, end_with_parent
from worker.evaluation import gate, report
from worker.evaluation.alone import assess
from worker.evaluation.budget import Budget, judge
from worker.evaluation.coverage import Coverage, measure_coverage
from worker.evaluation.heldout import Comparison, compare
from worker.evaluation.invariance import Invariance, check_invariance, invariance_rows, varied
from worker.evaluation.latency import Latencies, is_slower, measure, measure_alone
from worker.evaluation.layers import compare_layers
from worker.evaluation.padding import Axes, Padding, check_padding, made_up_sequences, sequence_inputs
from worker.evaluation.portability import Saturation, predict_saturation
from worker.evaluation.profile import OperatorTime, compare_operators, in_words
from worker.evaluation.split import Split, split
from worker.evaluation.thumbnails import find_images
from worker.evaluation.transcript import Transcript
from worker.methods import METHODS, CalibrationSamples, Made, Progress, Stage, Task
from worker.samples import Feeder, Feeds, made_up

ENGINE = "onnxruntime"

# The share of a job at which each stage begins; the next one's is where it ends.
_BEGINS: dict[str, float] = {"prepare": 0.0, "calibrate": 0.05, "quantize": 0.3, "gate": 0.4, "evaluate": 0.45}
# Of methods that have a stage of their own, which takes most of the time.
_LONG_STAGES: dict[str, str] = {"mixed": "search", "qat": "train"}
_BEGINS_AROUND: dict[str, float] = {"prepare": 0.0, "calibrate": 0.02, "quantize": 0.1, "gate": 0.85, "evaluate": 0.87}
_LONG_BEGINS = 0.15

# The parts of evaluation, as shares of it.
_HELDOUT_ENDS, _LATENCY_ENDS = 0.6, 0.9

_LATENCY_REQUESTS = 16
_LAYER_SAMPLES = 16
_SATURATION_SAMPLES = 32

_NO_DATASET = "no dataset: only latency is measured, on a made-up request; nothing is known of the model's accuracy"


def run(spec: JobSpec, folder: Path, progress: Progress, save: Callable[[Path], None] = lambda path: None) -> Outcome:
    """Do the job; raises an `OctetError` whose detail tells the client why it cannot be done.

    `save` is told of each file that a next attempt could go on from.
    """
    progress("prepare", 0.0)
    source = folder / spec.model
    samples = open_dataset(folder / spec.dataset) if spec.dataset is not None else None
    parts = _split(spec, len(samples)) if samples is not None else None
    if spec.method == EVALUATE.name:
        return _evaluate(spec, source, samples, parts, progress)
    made = METHODS[spec.method](_task(spec, folder, samples, parts, progress, save))

    progress("gate", 0.0)
    axes = sequence_inputs(source)
    original = ENGINES[ENGINE].load(source, intra_op_threads=spec.intra_op_threads)
    variant = gate.load_variant(made.artifact, engine=ENGINE, intra_op_threads=spec.intra_op_threads)
    requests = _requests(spec, original, samples, parts)
    gate.check(original, variant, requests[0])
    rows = requests if samples is not None else varied(original, requests[0], seed=_seed(spec))
    invariance = _invariance(original, variant, rows)
    sequences = rows if samples is not None else made_up_sequences(rows, axes)
    padding = _padding(invariance, original, variant, axes, sequences)
    original_padding = check_padding(original, original, axes, sequences)

    progress("evaluate", 0.0)
    comparison, batch, transcript = None, None, Transcript()
    if samples is not None and parts is not None:
        heldout = _part(progress, 0.0, _HELDOUT_ENDS)
        comparison, batch = _compare(invariance, original, variant, samples, parts, heldout, transcript)
    latencies = measure(
        original, variant, requests, seed=_seed(spec), progress=_part(progress, _HELDOUT_ENDS, _LATENCY_ENDS)
    )
    answers = _answers(spec, samples, [tensor.name for tensor in original.inputs], transcript)
    # A large model's memory goes back before the graphs are loaded once more, all layers exposed.
    del original, variant
    operators = []
    if is_slower(latencies):
        operators = compare_operators(source, made.artifact, requests, folder, intra_op_threads=spec.intra_op_threads)
    inside = _Inside()
    if samples is not None and parts is not None:
        inside = _look_inside(made, samples, parts, _part(progress, _LATENCY_ENDS, 1.0))
    progress("evaluate", 1.0)
    measured = _Measured(
        invariance, padding, original_padding, comparison, batch, latencies, operators, inside, answers
    )
    return _outcome(spec, source, made, parts, measured)


def _evaluate(spec: JobSpec, source: Path, samples: Samples | None, parts: Split | None, progress: Progress) -> Outcome:
    """What the original is by itself."""
    progress("evaluate", 0.0)
    axes = sequence_inputs(source)
    original = ENGINES[ENGINE].load(source, intra_op_threads=spec.intra_op_threads)
    requests = _requests(spec, original, samples, parts)
    rows = requests if samples is not None else varied(original, requests[0], seed=_seed(spec))
    invariance = _invariance(original, original, rows)
    sequences = rows if samples is not None else made_up_sequences(rows, axes)
    padding = _padding(invariance, original, original, axes, sequences)
    alone, batch, transcript = None, None, Transcript()
    if samples is not None and parts is not None:
        feeder = Feeder(original.inputs, samples.arrays)
        batch = _batch(feeder, invariance)
        heldout = _part(progress, 0.0, _HELDOUT_ENDS)
        labels = samples.labels
        alone = assess(original, feeder, parts.evaluation, labels, batch=batch, progress=heldout, transcript=transcript)
    latency = measure_alone(original, requests, progress=_part(progress, _HELDOUT_ENDS, 1.0))
    return Outcome(
        artifact=None,
        engine=ENGINE,
        verdict=None,
        batchable=invariance.batchable,
        padding=padding.axes,
        samples=alone.samples if alone is not None else 0,
        original=report.figures_alone(alone, latency),
        variant=Figures(),
        report=report.build_alone(
            _circumstances(spec, parts, batch),
            notes=[
                note
                for note in (_NO_DATASET if samples is None else None, invariance.note, padding.note)
                if note is not None
            ],
            size_bytes=onnx_files.size_bytes(source),
            alone=alone,
            latency=latency,
            batchable=invariance.batchable,
            paddable=padding.axes is not None,
            confusion=transcript.confusion(_class_names(spec, samples)),
        ),
    )


@dataclass(frozen=True)
class _Inside:
    """What is seen of the variant's inner tensors; nothing without samples."""

    layers: Sequence[LayerFigures] = ()
    activations: Sequence[Activation] = ()
    coverage: Coverage | None = None
    saturation: Saturation | None = None


@dataclass(frozen=True)
class _Measured:
    """All that evaluation found out about a variant."""

    invariance: Invariance
    padding: Padding
    original_padding: Padding
    comparison: Comparison | None
    batch: int | None
    latencies: Latencies
    operators: Sequence[OperatorTime]
    inside: _Inside
    answers: Mapping[str, Any]

    @property
    def notes(self) -> Iterator[str]:
        if self.comparison is None:
            yield _NO_DATASET
        if is_slower(self.latencies):
            words = in_words(self.operators)
            yield f"slower than the original on this machine: {self.latencies.speedup:.2f}x" + (
                f"; what costs it most: {words}" if words else ""
            )
        found = (self.invariance, self.padding, self.inside.coverage, self.inside.saturation)
        notes = (one.note for one in found if one)
        yield from (note for note in notes if note is not None)


def _split(spec: JobSpec, samples: int) -> Split:
    """Methods that do not calibrate leave out what INT8 would, so that all are judged on the same samples."""
    reserved = [_calibration_samples(spec), *(spec.options.get(f"{use}_samples", 0) for use in ("search", "training"))]
    return split(
        samples,
        seed=_seed(spec),
        calibration_samples=max(reserved),
        evaluation_samples=spec.options["evaluation_samples"],
    )


def _calibration_samples(spec: JobSpec) -> int:
    default = Int8Options.model_fields["calibration_samples"].default
    return int(spec.options.get("calibration_samples", default))


def _seed(spec: JobSpec) -> int:
    return int(spec.options["seed"])


def _task(
    spec: JobSpec,
    folder: Path,
    samples: Samples | None,
    parts: Split | None,
    progress: Progress,
    save: Callable[[Path], None],
) -> Task:
    calibration = None
    if samples is not None and parts is not None:
        calibration = CalibrationSamples(
            samples.arrays,
            parts.calibration[: _calibration_samples(spec)],
            folder / spec.statistics if spec.statistics is not None else None,
            development=parts.calibration,
            labels=samples.labels,
        )
    return Task(
        folder / spec.model,
        folder,
        spec.options,
        this_cpu(),
        calibration,
        progress,
        intra_op_threads=spec.intra_op_threads,
        checkpoint=folder / spec.checkpoint if spec.checkpoint is not None else None,
        save=save,
        point=tuple(spec.point) if spec.point is not None else None,
    )


def _requests(spec: JobSpec, original: LoadedModel, samples: Samples | None, parts: Split | None) -> list[Feeds]:
    """Single requests: held-out samples one at a time, or made-up values where there is no dataset."""
    if samples is None or parts is None:
        return [made_up(original, seed=_seed(spec))]
    feeder = Feeder(original.inputs, samples.arrays)
    return [batch.feeds for batch in feeder.batches(parts.evaluation[:_LATENCY_REQUESTS], 1)]


def _invariance(original: LoadedModel, variant: LoadedModel, requests: Sequence[Feeds]) -> Invariance:
    fixed = Feeder(original.inputs, requests[0]).fixed_batch
    if fixed is not None:
        return Invariance(False, f"the model takes batches of {fixed} and no other: requests are not batched together")
    return check_invariance(original, variant, invariance_rows(requests))


def _padding(
    invariance: Invariance, original: LoadedModel, variant: LoadedModel, axes: Axes, rows: Sequence[Feeds]
) -> Padding:
    """Only what may share a batch is ever padded."""
    return check_padding(original, variant, axes, rows) if invariance.batchable else Padding(None)


def _compare(
    invariance: Invariance,
    original: LoadedModel,
    variant: LoadedModel,
    samples: Samples,
    parts: Split,
    progress: Callable[[float], None],
    transcript: Transcript,
) -> tuple[Comparison, int]:
    feeder = Feeder(original.inputs, samples.arrays)
    batch = _batch(feeder, invariance)
    comparison = compare(
        original,
        variant,
        feeder,
        parts.evaluation,
        samples.labels,
        batch=batch,
        progress=progress,
        transcript=transcript,
    )
    return comparison, batch


def _answers(spec: JobSpec, samples: Samples | None, inputs: Sequence[str], transcript: Transcript) -> dict[str, Any]:
    """The sections of the report that show answers rather than count them."""
    names = _class_names(spec, samples)
    images = find_images(samples.arrays, inputs) if samples is not None else None
    return {"confusion": transcript.confusion(names), "answers": transcript.changes(names, images)}


def _class_names(spec: JobSpec, samples: Samples | None) -> Sequence[str] | None:
    """As the model's upload has them, or else the dataset's."""
    return spec.class_names or (samples.class_names if samples is not None else None)


def _batch(feeder: Feeder, invariance: Invariance) -> int:
    """A model whose answers depend on the batch is judged on what a lone request gets."""
    return feeder.fixed_batch or (feeder.natural_batch if invariance.batchable else 1)


def _look_inside(made: Made, samples: Samples, parts: Split, progress: Callable[[float], None]) -> _Inside:
    few, threads = parts.evaluation[:_LAYER_SAMPLES], usable_cores()
    layers = compare_layers(made.reference, made.artifact, samples.arrays, few, threads=threads, progress=progress)
    layers = [layer.model_copy(update={"repairs": list(made.repairs.get(layer.name, ()))}) for layer in layers]
    return _Inside(
        layers,
        activations(made.reference, made.artifact, made.ranges, made.histograms, layers),
        measure_coverage(made.reference, made.ranges, samples.arrays, few, threads=threads),
        predict_saturation(made.artifact, samples.arrays, parts.evaluation[:_SATURATION_SAMPLES], threads=threads),
    )


def _part(progress: Progress, begin: float, end: float) -> Callable[[float], None]:
    return lambda share: progress("evaluate", begin + (end - begin) * share)


def _outcome(spec: JobSpec, source: Path, made: Made, parts: Split | None, measured: _Measured) -> Outcome:
    comparison, latencies, inside = measured.comparison, measured.latencies, measured.inside
    budget = Budget(spec.options["max_accuracy_drop"], spec.options["min_speedup"])
    verdict = judge(budget, comparison, latencies)
    return Outcome(
        artifact=made.artifact.name,
        data=made.data.name if made.data is not None else None,
        engine=ENGINE,
        verdict=verdict.verdict,
        reasons=list(verdict.reasons),
        batchable=measured.invariance.batchable,
        padding=measured.padding.axes,
        original_padding=measured.original_padding.axes,
        statistics=made.statistics.name if made.statistics is not None else None,
        samples=comparison.samples if comparison is not None else 0,
        original=report.figures_of_original(comparison, latencies),
        variant=report.figures_of_variant(comparison, latencies),
        layers=list(inside.layers),
        points=list(made.points),
        report=report.build(
            _circumstances(spec, parts, measured.batch),
            facts=made.facts,
            notes=[*made.notes, *verdict.warnings, *measured.notes],
            original_bytes=onnx_files.size_bytes(source),
            variant_bytes=onnx_files.size_bytes(made.artifact),
            comparison=comparison,
            latencies=latencies,
            layers=inside.layers,
            gate={
                "verdict": verdict.verdict,
                "reasons": verdict.reasons,
                "budget": asdict(budget),
                "batchable": measured.invariance.batchable,
                "paddable": measured.padding.axes is not None,
            },
            findings={
                "operators": [one.as_json() for one in measured.operators],
                "calibration_coverage": inside.coverage.as_json() if inside.coverage is not None else None,
                "portability": inside.saturation.as_json() if inside.saturation is not None else None,
                "activations": [one.as_json() for one in inside.activations],
                **measured.answers,
                **made.sections,
            },
        ),
    )


def _circumstances(spec: JobSpec, parts: Split | None, batch: int | None) -> report.Circumstances:
    return report.Circumstances(
        method=spec.method,
        options=spec.options,
        model_digest=spec.model_digest,
        dataset_name=spec.dataset_name,
        dataset_digest=spec.dataset_digest,
        split=parts,
        cpu=this_cpu(),
        intra_op_threads=spec.intra_op_threads,
        batch=batch,
    )


def _overall(channel: Channel, method: str) -> Progress:
    """A stage's own share → the job's."""
    long = _LONG_STAGES.get(method)
    begins = _BEGINS if long is None else {**_BEGINS_AROUND, long: _LONG_BEGINS}
    stages = sorted(begins, key=lambda stage: begins[stage])
    spans = {
        stage: (begins[stage], end) for stage, end in zip(stages, [*sorted(begins.values())[1:], 1.0], strict=True)
    }

    def progress(stage: Stage, share: float, detail: Mapping[str, Any] | None = None, /) -> None:
        begin, end = spans[stage]
        channel.progress(stage, begin + (end - begin) * min(1.0, share), detail)

    return progress


_OUT_OF_MEMORY = "the job ran out of memory; a worker with more of it, or a smaller model, would do"


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own error, or the runtime's, which has no class of its own."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("Failed to allocate memory", "bad_alloc", "bad allocation")
    )


def main(folder: Path, channel: Channel) -> int:
    """Do the job in `folder`, tell how it ends, and return the exit code."""
    try:
        spec = JobSpec.read(folder)
        outcome = run(spec, folder, _overall(channel, spec.method), lambda path: channel.checkpoint(path.name))
    except OctetError as error:
        channel.send({"error": error.detail})
    except Exception as error:  # noqa: BLE001 - the last handler: the parent must hear of anything
        channel.send({"error": _told(error)})
        traceback.print_exc()
    else:
        channel.send({"outcome": outcome.model_dump(mode="json")})
        return 0
    return 1


def _told(error: Exception) -> str:
    """What the client hears of an error that is none of ours; its traceback is for the log."""
    if _is_out_of_memory(error):
        return _OUT_OF_MEMORY
    if isinstance(error, OSError):
        return f"the job's files could not be read or written: {error.strerror or type(error).__name__}"
    return f"internal error: {type(error).__name__}: {error}"


if __name__ == "__main__":
    messages = claim_stdout()
    end_with_parent()
    sys.exit(main(Path(sys.argv[1]), messages))
