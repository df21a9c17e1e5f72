"""The job that makes no variant: what the original is by itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from app.blobs import open_store
from app.contracts.figures import Figures
from app.contracts.job_spec import JobSpec
from app.contracts.methods import EVALUATE, METHODS, checked_options
from app.contracts.outcome import Outcome, SequenceAxes
from app.registry import Database, jobs, models, variants
from app.settings import Settings
from tests import graphs
from tests.worker.models import classifier, normal, token_arrays, write
from tests.worker.runs import Messages, child, submitted
from tests.worker.runtime import run as answer
from worker import pipeline, runner
from worker.runner import Runner

Arrays = dict[str, NDArray[Any]]


def lay_out(folder: Path, proto: Any, arrays: Arrays | None, method: str = "evaluate", **options: Any) -> JobSpec:
    folder.mkdir(exist_ok=True)
    write(proto, folder)
    if arrays is not None:
        np.savez(folder / "dataset.npz", **arrays)  # type: ignore[arg-type]
    row = EVALUATE if method == EVALUATE.name else METHODS[method]
    return JobSpec(
        method=method,
        options=checked_options(row, options),
        engine="onnxruntime",
        model="original.onnx",
        model_digest="5" * 64,
        dataset=None if arrays is None else "dataset.npz",
        dataset_name=None if arrays is None else "images",
        dataset_digest=None if arrays is None else "6" * 64,
        intra_op_threads=1,
    )


def evaluated(folder: Path, proto: Any, arrays: Arrays | None, **options: Any) -> Outcome:
    stages: list[str] = []
    outcome = pipeline.run(
        lay_out(folder, proto, arrays, **options), folder, lambda stage, share, detail=None: stages.append(stage)
    )
    assert list(dict.fromkeys(stages)) == ["prepare", "evaluate"]
    return outcome


def test_all_held_out_samples_are_judged_by_their_labels(tmp_path: Path) -> None:
    arrays: Arrays = {"x": normal(96, 3, 8, 8)}
    labels = answer(write(classifier(), tmp_path), arrays)[0].argmax(axis=1)
    outcome = evaluated(tmp_path, classifier(), {**arrays, "label": labels})
    assert (outcome.artifact, outcome.verdict, outcome.variant) == (None, None, Figures())
    assert (outcome.samples, outcome.original.accuracy, outcome.batchable) == (48, 1.0, True)
    figures = outcome.original
    assert figures.latency_p50_ms is not None
    assert figures.latency_p99_ms is not None
    assert 0 < figures.latency_p50_ms <= figures.latency_p99_ms
    report = json.loads(json.dumps(outcome.report, allow_nan=False))
    assert report["quality"] == {"samples": 48, "batch": 32, "accuracy": 1.0}
    assert report["dataset"]["name"] == "images"
    assert report["latency"]["original_ms"]["p50"] == figures.latency_p50_ms
    assert report["latency"]["requests"] >= 10
    assert report["size"] == {"original_bytes": (tmp_path / "original.onnx").stat().st_size}
    assert report["machine"].keys() >= {"model", "cores"}


def test_it_is_judged_on_the_samples_that_judge_variants(tmp_path: Path) -> None:
    arrays: Arrays = {"x": normal(96, 3, 8, 8)}
    alone = evaluated(tmp_path / "alone", classifier(), arrays, seed=3)
    spec = lay_out(tmp_path / "fp16", classifier(), arrays, "fp16", seed=3)
    beside = pipeline.run(spec, tmp_path / "fp16", lambda stage, share, detail=None: None)
    assert alone.report["dataset"] == beside.report["dataset"]


def test_an_upload_that_is_quantized_already_is_measured(tmp_path: Path) -> None:
    arrays = graphs.labelled_samples(samples=60)
    outcome = evaluated(tmp_path, graphs.quantized_classifier(), arrays)
    assert outcome.samples == 30
    assert outcome.original.accuracy is not None
    assert outcome.batchable is True


def test_a_model_whose_answers_depend_on_batch_mates_is_judged_alone(tmp_path: Path) -> None:
    images = normal(96, 3, 8, 8)
    loudness = np.linspace(0.2, 3.0, len(images), dtype=np.float32).reshape(-1, 1, 1, 1)
    arrays: Arrays = {"x": images * loudness}
    made = pipeline.run(
        lay_out(tmp_path, classifier(), arrays, "dynamic"), tmp_path, lambda stage, share, detail=None: None
    )
    assert made.artifact is not None
    (tmp_path / made.artifact).replace(tmp_path / "original.onnx")
    spec = lay_out(tmp_path / "again", classifier(), arrays)
    (tmp_path / "original.onnx").replace(tmp_path / "again" / "original.onnx")
    outcome = pipeline.run(spec, tmp_path / "again", lambda stage, share, detail=None: None)
    assert outcome.batchable is False
    assert outcome.report["quality"]["batch"] == 1


@pytest.mark.parametrize("with_samples", [True, False])
@pytest.mark.parametrize(("output", "proved"), [("mean", True), ("plain mean", False)])
def test_padding_is_tried_on_the_original_too(tmp_path: Path, output: str, proved: bool, with_samples: bool) -> None:
    proto = graphs.masked_attention(vocabulary=300, output=output)
    outcome = evaluated(tmp_path, proto, token_arrays(40, 12) if with_samples else None)
    assert outcome.batchable is True
    assert outcome.padding == (SequenceAxes(inputs={"ids": 1, "mask": 1}, outputs={}) if proved else None)
    assert outcome.report["paddable"] is proved
    assert any("padding a sequence" in note for note in outcome.report["notes"]) is not proved


def test_fp32_weights_of_a_quantized_upload_can_be_stored_in_half(tmp_path: Path) -> None:
    proto = graphs.quantized_classifier()
    proto.graph.node[-1].output[0] = "hidden"
    proto.graph.node.append(helper.make_node("MatMul", ["hidden", "last"], ["logits"], name="last"))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 64
    proto.graph.initializer.append(numpy_helper.from_array(normal(4, 64), "last"))
    spec = lay_out(tmp_path, proto, graphs.labelled_samples(), "fp16")
    outcome = pipeline.run(spec, tmp_path, lambda stage, share, detail=None: None)
    assert outcome.verdict == "accepted"
    assert outcome.variant.agreement is not None
    assert outcome.variant.agreement > 0.95


def test_without_a_dataset_only_latency_is_measured_and_that_is_said(tmp_path: Path) -> None:
    outcome = evaluated(tmp_path, classifier(), None)
    assert (outcome.samples, outcome.original.accuracy) == (0, None)
    assert outcome.original.latency_p50_ms is not None
    assert outcome.report["quality"] is None
    assert any("no dataset" in note for note in outcome.report["notes"])


def test_the_runner_publishes_figures_and_no_variant(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(
        artifact=None,
        engine="onnxruntime",
        verdict=None,
        samples=10,
        original=Figures(accuracy=0.5),
        variant=Figures(),
        report={"quality": {"accuracy": 0.5}},
    )

    def play(folder: Path) -> Messages:
        assert JobSpec.read(folder).method == "evaluate"
        yield {"outcome": outcome.model_dump(mode="json")}

    monkeypatch.setattr(runner, "Child", child(play))
    job_id = submitted(settings, database, "evaluate")
    Runner(settings, database, open_store(settings)).run(job_id)
    with database.reading() as session:
        job = jobs.find(session, job_id)
        (original,) = variants.listed(session, models.find(session, "linear"))
        assert (job.state, job.variant) == ("succeeded", original)
        assert original.evaluation is not None
        assert original.evaluation.accuracy == 0.5
        assert original.evaluation.report == {"quality": {"accuracy": 0.5}}
    assert list(open_store(settings).digests()) == ["a" * 64]
