"""The steps of a job: prepare → calibrate → quantize → gate → evaluate. They run in the job's own process."""

from collections.abc import Callable
from pathlib import Path

from app.contracts.job_spec import JobSpec
from app.contracts.methods import EVALUATE
from app.contracts.outcome import Outcome
from app.engines.cpu import this_cpu
from worker import methods
from worker.job_inputs import JobInputs
from worker.methods import CalibrationSamples, Progress, Task
from worker.original_evaluation import evaluate_original
from worker.outcome import outcome_of_original, outcome_of_variant
from worker.variant_evaluation import evaluate_variant


def run(spec: JobSpec, folder: Path, progress: Progress, save: Callable[[Path], None] = lambda path: None) -> Outcome:
    """Do the job that `spec` describes.

    Args:
        spec: The job.
        folder: Holds the files that `spec` names, and gets the artifact.
        progress: Called as the job gets on.
        save: Called with each file that a next attempt could go on from.

    Raises:
        OctetError: The job cannot be done; the detail tells the client why.
    """
    progress("prepare", 0.0)
    inputs = JobInputs.open(spec, folder)
    if spec.method == EVALUATE.name:
        return outcome_of_original(inputs, evaluate_original(inputs, progress))
    made = methods.find(spec.method)(_task(inputs, progress, save))
    return outcome_of_variant(inputs, made, evaluate_variant(inputs, made, progress))


def _task(inputs: JobInputs, progress: Progress, save: Callable[[Path], None]) -> Task:
    spec, folder = inputs.spec, inputs.folder
    return Task(
        inputs.source,
        folder,
        spec.options,
        inputs.engine,
        this_cpu(),
        _calibration(inputs),
        progress,
        intra_op_threads=spec.intra_op_threads,
        checkpoint=folder / spec.checkpoint if spec.checkpoint is not None else None,
        save=save,
        point=tuple(spec.point) if spec.point is not None else None,
    )


def _calibration(inputs: JobInputs) -> CalibrationSamples | None:
    if inputs.dataset is None:
        return None
    spec, samples, calibration = inputs.spec, inputs.dataset.samples, inputs.dataset.split.calibration
    return CalibrationSamples(
        samples.arrays,
        calibration[: inputs.calibration_samples],
        inputs.folder / spec.statistics if spec.statistics is not None else None,
        development=calibration,
        labels=samples.labels,
    )
