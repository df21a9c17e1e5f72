"""What a job hands over: its artifact, the verdict, the figures and the report."""

from dataclasses import asdict
from typing import Any

from app.contracts.figures import Figures
from app.contracts.outcome import Outcome
from app.engines.cpu import this_cpu
from worker import onnx_files
from worker.evaluation import report
from worker.evaluation.budget import Budget, Verdict, judge
from worker.job_inputs import JobInputs
from worker.methods import Made
from worker.original_evaluation import OriginalEvaluation
from worker.variant_evaluation import VariantEvaluation


def outcome_of_variant(inputs: JobInputs, made: Made, evaluation: VariantEvaluation) -> Outcome:
    """Judge the variant by the budget of the job, and report what was measured."""
    options, comparison, latencies = inputs.spec.options, evaluation.heldout.comparison, evaluation.latencies
    budget = Budget(options["max_accuracy_drop"], options["min_speedup"])
    verdict = judge(budget, comparison, latencies)
    return Outcome(
        artifact=made.artifact.name,
        data=made.data.name if made.data is not None else None,
        engine=inputs.spec.engine,
        verdict=verdict.verdict,
        reasons=list(verdict.reasons),
        batchable=evaluation.batching.invariance.batchable,
        padding=evaluation.batching.padding.axes,
        original_padding=evaluation.original_padding.axes,
        statistics=made.statistics.name if made.statistics is not None else None,
        samples=comparison.samples if comparison is not None else 0,
        original=report.figures_of_original(comparison, latencies),
        variant=report.figures_of_variant(comparison, latencies),
        layers=list(evaluation.inside.layers),
        points=list(made.points),
        report=_report(inputs, made, evaluation, budget, verdict),
    )


def outcome_of_original(inputs: JobInputs, evaluation: OriginalEvaluation) -> Outcome:
    """Report what was measured of the original; there is no artifact, and nothing to judge."""
    alone, batching = evaluation.alone, evaluation.batching
    return Outcome(
        artifact=None,
        engine=inputs.spec.engine,
        verdict=None,
        batchable=batching.invariance.batchable,
        padding=batching.padding.axes,
        samples=alone.samples if alone is not None else 0,
        original=report.figures_alone(alone, evaluation.latency),
        variant=Figures(),
        report=report.build_alone(
            _circumstances(inputs, evaluation.batch),
            notes=evaluation.notes,
            size_bytes=onnx_files.size_bytes(inputs.source),
            alone=alone,
            latency=evaluation.latency,
            batchable=batching.invariance.batchable,
            paddable=batching.padding.axes is not None,
            confusion=evaluation.confusion,
        ),
    )


def _report(
    inputs: JobInputs, made: Made, evaluation: VariantEvaluation, budget: Budget, verdict: Verdict
) -> dict[str, Any]:
    batching, inside = evaluation.batching, evaluation.inside
    return report.build(
        _circumstances(inputs, evaluation.heldout.batch),
        facts=made.facts,
        notes=[*made.notes, *verdict.warnings, *evaluation.notes],
        original_bytes=onnx_files.size_bytes(inputs.source),
        variant_bytes=onnx_files.size_bytes(made.artifact),
        comparison=evaluation.heldout.comparison,
        latencies=evaluation.latencies,
        layers=inside.layers,
        gate={
            "verdict": verdict.verdict,
            "reasons": verdict.reasons,
            "budget": asdict(budget),
            "batchable": batching.invariance.batchable,
            "paddable": batching.padding.axes is not None,
        },
        findings={
            "operators": [one.as_json() for one in evaluation.operators],
            "calibration_coverage": inside.coverage.as_json() if inside.coverage is not None else None,
            "portability": inside.saturation.as_json() if inside.saturation is not None else None,
            "activations": [one.as_json() for one in inside.activations],
            **evaluation.heldout.sections,
            **made.sections,
        },
    )


def _circumstances(inputs: JobInputs, batch: int | None) -> report.Circumstances:
    spec = inputs.spec
    return report.Circumstances(
        method=spec.method,
        options=spec.options,
        model_digest=spec.model_digest,
        dataset_name=spec.dataset_name,
        dataset_digest=spec.dataset_digest,
        split=inputs.dataset.split if inputs.dataset is not None else None,
        cpu=this_cpu(),
        engine=inputs.engine,
        intra_op_threads=spec.intra_op_threads,
        batch=batch,
    )
