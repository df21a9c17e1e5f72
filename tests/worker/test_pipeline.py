"""A job from its folder to its outcome."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from app.contracts.job_spec import JobSpec
from app.contracts.methods import METHODS, checked_options
from app.contracts.outcome import Outcome, SequenceAxes
from app.errors import JobFailed, OctetError
from tests import graphs
from tests.servers import needs_torch
from tests.worker import models
from tests.worker.runtime import run as answer
from worker import job_process, pipeline, variant_evaluation
from worker.calibration import calibrator
from worker.channel import Channel
from worker.job_progress import job_progress
from worker.methods import fp16

pytestmark = pytest.mark.e2e

#: The name of a method → the outcome of its job.
JobOf = Callable[[str], Outcome]

_STAGES = ["prepare", "calibrate", "quantize", "gate", "evaluate"]


def _lay_out(
    folder: Path,
    method: str,
    proto: onnx.ModelProto,
    arrays: dict[str, NDArray[Any]] | None,
    **options: Any,
) -> JobSpec:
    models.write(proto, folder)
    if arrays is not None:
        np.savez(folder / "dataset.npz", **arrays)  # type: ignore[arg-type]
    spec = JobSpec(
        method=method,
        options=checked_options(METHODS[method], options),
        engine="onnxruntime",
        model="original.onnx",
        model_digest="5" * 64,
        dataset=None if arrays is None else "dataset.npz",
        dataset_name=None if arrays is None else "images",
        dataset_digest=None if arrays is None else "6" * 64,
        intra_op_threads=1,
    )
    spec.write(folder)
    return spec


def _images(samples: int = 96) -> dict[str, NDArray[Any]]:
    return {"x": models.normal(samples, 3, 8, 8)}


def _run(spec: JobSpec, folder: Path) -> Outcome:
    return pipeline.run(spec, folder, lambda stage, share, detail=None: None)


@pytest.fixture(scope="module")
def job_of(tmp_path_factory: pytest.TempPathFactory) -> JobOf:
    """The outcome of a method's job, which runs once for all tests that only read it."""
    outcomes: dict[str, Outcome] = {}

    def job_of(method: str) -> Outcome:
        if method == "qat":
            needs_torch()
        if method not in outcomes:
            folder = tmp_path_factory.mktemp(method)
            proto, arrays = models.classifier(), _images()
            labels = answer(models.write(proto, folder), arrays)[0].argmax(axis=1)
            spec = _lay_out(folder, method, proto, {**arrays, "label": labels}, max_accuracy_drop=0.1)
            outcomes[method] = _run(spec, folder)
        return outcomes[method]

    return job_of


@pytest.mark.parametrize("method", METHODS)
def test_the_outcome_of_each_method_is_measured_on_the_held_out_part(job_of: JobOf, method: str) -> None:
    outcome = job_of(method)
    assert outcome.samples == 48
    assert outcome.original.accuracy == 1.0
    figures = outcome.variant
    assert figures.accuracy == figures.agreement == figures.accuracy_ratio
    assert figures.accuracy is not None
    assert figures.accuracy > 0.9
    assert figures.cosine is not None
    assert 0.99 < figures.cosine <= 1.0
    assert figures.sqnr_db is not None
    assert figures.sqnr_db > 15
    assert figures.speedup_low is not None
    assert figures.speedup is not None
    assert figures.speedup_high is not None
    assert 0 < figures.speedup_low <= figures.speedup <= figures.speedup_high
    assert outcome.original.latency_p50_ms is not None
    assert figures.latency_p99_ms is not None
    assert figures.latency_p50_ms is not None
    assert figures.latency_p99_ms >= figures.latency_p50_ms > 0
    assert {layer.name for layer in outcome.layers} >= {"conv1", "conv2", "gemm"}
    assert (outcome.verdict, outcome.engine, outcome.artifact) == ("accepted", "onnxruntime", "variant.onnx")


@pytest.mark.parametrize("method", METHODS)
def test_the_report_is_strict_json_and_tells_the_circumstances(tmp_path: Path, method: str) -> None:
    if method == "qat":
        needs_torch()
    outcome = _run(_lay_out(tmp_path, method, models.classifier(), _images(), seed=3), tmp_path)
    report = json.loads(json.dumps(outcome.report, allow_nan=False))
    assert report["method"]["name"] == method
    assert report["method"]["options"]["seed"] == 3
    assert report["method"]["types"]["reason"]
    assert report["model"]["digest"] == "5" * 64
    assert (report["dataset"]["name"], report["dataset"]["digest"]) == ("images", "6" * 64)
    assert report["dataset"]["split"]["seed"] == 3
    assert report["dataset"]["split"]["calibration_samples"] == 48
    assert report["machine"].keys() >= {"model", "architecture", "cores", "vnni"}
    assert report["versions"]["onnxruntime"]
    assert report["size"]["variant_bytes"] == (tmp_path / "variant.onnx").stat().st_size
    assert report["size"]["original_bytes"] == (tmp_path / "original.onnx").stat().st_size
    assert report["latency"]["pairs"] >= 10
    assert report["latency"]["intra_op_threads"] == 1
    assert len(report["layers"]) == len(outcome.layers)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_report_shows_whose_answer_changed(tmp_path: Path, labelled: bool) -> None:
    arrays = _images(400)
    labels = {"label": np.arange(400) % 5} if labelled else {}
    spec = _lay_out(tmp_path, "int8", models.classifier(), {**arrays, **labels}, activation_bits=4)
    spec = spec.model_copy(update={"class_names": ["a", "b", "c", "d", "e"]})
    report = _run(spec, tmp_path).report
    answers = report["answers"]
    assert answers["samples_compared"] == 200
    assert answers["changed"] == round(200 * (1.0 - report["quality"]["agreement"]))
    assert answers["changed"] > 0
    for sample in answers["samples"]:
        assert sample["original"] != sample["variant"]
        assert {sample["original"], sample["variant"]} <= set("abcde")
        assert sample["label"] == ("abcde"[sample["sample"] % 5] if labelled else None)
        assert sample["image"].startswith("data:image/png;base64,")
    assert report["confusion"]["rows"] == ("label" if labelled else "original")
    assert len(json.dumps(report)) < 60_000


def test_the_report_shows_what_the_ladder_did_to_each_layer(tmp_path: Path) -> None:
    outcome = _run(_lay_out(tmp_path, "int8", models.classifier(), _images(), calibration="auto"), tmp_path)
    kept = {step["repair"] for step in outcome.report["method"]["repairs"] if step["kept"]}
    told = {repair for layer in outcome.layers for repair in layer.repairs}
    assert ("bias correction" in kept) == ("bias corrected" in told)
    assert ("weight scales" in kept) == ("weight scales searched" in told)
    assert ("activation ranges" in kept) == any("range by" in words for words in told)
    assert all(layer.tensor and layer.shape and layer.activations for layer in outcome.layers)
    assert outcome.report["activations"][0]["layer"] in {layer.name for layer in outcome.layers}


def test_without_a_dataset_the_report_shows_no_answers(tmp_path: Path) -> None:
    report = _run(_lay_out(tmp_path, "fp16", models.classifier(), None), tmp_path).report
    assert (report["answers"], report["confusion"], report["activations"]) == (None, None, [])
    spread = report["latency"]["distribution"]
    assert sum(spread["variant"]) + spread["slower_variant"] == report["latency"]["pairs"]


def test_int8_is_never_judged_on_a_sample_that_calibrated_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[int]] = {}
    collect, compare, layers = calibrator.collect, variant_evaluation.compare, variant_evaluation.compare_layers

    def watching(name: str, function: Any, position: int) -> Any:
        def watch(*arguments: Any, **options: Any) -> Any:
            seen[name] = set(arguments[position].tolist())
            return function(*arguments, **options)

        return watch

    monkeypatch.setattr(calibrator, "collect", watching("calibrated", collect, 3))
    monkeypatch.setattr(variant_evaluation, "compare", watching("compared", compare, 3))
    monkeypatch.setattr(variant_evaluation, "compare_layers", watching("layers", layers, 3))
    spec = _lay_out(tmp_path, "int8", models.classifier(), _images(), calibration_samples=30, evaluation_samples=40)
    _run(spec, tmp_path)
    assert len(seen["calibrated"]) == 30
    assert len(seen["compared"]) == 40
    assert seen["layers"] <= seen["compared"]
    assert not seen["calibrated"] & seen["compared"]


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_are_judged_on_the_same_samples(job_of: JobOf, method: str) -> None:
    digests = {job_of(name).report["dataset"]["split"]["evaluation_digest"] for name in ("fp16", method)}
    assert len(digests) == 1


def test_a_variant_whose_answers_depend_on_batch_mates_is_judged_alone(tmp_path: Path) -> None:
    outcome = _run(_lay_out(tmp_path, "dynamic", models.token_encoder(), models.token_arrays(40)), tmp_path)
    assert outcome.report["quality"]["batch"] == 1
    assert outcome.variant.agreement is None
    assert outcome.variant.cosine is not None
    assert outcome.variant.cosine > 0.99


@pytest.mark.parametrize("method", ["fp16", "dynamic"])
def test_without_a_dataset_only_latency_is_measured_and_that_is_said(tmp_path: Path, method: str) -> None:
    outcome = _run(_lay_out(tmp_path, method, models.classifier(), None), tmp_path)
    assert outcome.samples == 0
    assert outcome.layers == []
    assert outcome.variant.speedup is not None
    assert (outcome.variant.accuracy, outcome.variant.agreement, outcome.variant.cosine, outcome.variant.sqnr_db) == (
        None,
        None,
        None,
        None,
    )
    assert outcome.report["dataset"] is None
    assert any("no dataset" in note for note in outcome.report["notes"])


@pytest.mark.parametrize("batch", [1, 5])
def test_a_fixed_batch_is_evaluated_whole(tmp_path: Path, batch: int) -> None:
    outcome = _run(_lay_out(tmp_path, "int8", models.classifier(batch), _images(33)), tmp_path)
    assert outcome.samples == 17
    assert outcome.report["quality"]["batch"] == batch
    assert outcome.variant.cosine is not None
    assert outcome.variant.cosine > 0.99


@pytest.mark.parametrize("samples", [1, 0])
def test_int8_with_less_than_two_samples_fails_and_says_so(tmp_path: Path, samples: int) -> None:
    spec = _lay_out(tmp_path, "int8", models.classifier(), _images(samples))
    with pytest.raises(OctetError, match="at least 2"):
        _run(spec, tmp_path)


def test_a_variant_that_breaks_fails_at_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = fp16.make

    def breaking(task: Any) -> Any:
        made = make(task)
        broken = onnx.load(made.artifact)
        broken.graph.node.append(helper.make_node("Log", ["negative"], ["scores"], "log"))
        broken.graph.node[-2].output[0] = "positive"
        broken.graph.node.insert(len(broken.graph.node) - 1, helper.make_node("Abs", ["positive"], ["size"], "abs"))
        broken.graph.node.insert(len(broken.graph.node) - 1, helper.make_node("Neg", ["size"], ["negative"], "neg"))
        onnx.save(broken, made.artifact)
        return made

    monkeypatch.setattr(fp16, "make", breaking)
    with pytest.raises(JobFailed, match=r"'scores' of the variant is NaN"):
        _run(_lay_out(tmp_path, "fp16", models.classifier(), _images()), tmp_path)


def _child(folder: Path, *program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", *(program or ("-m", "worker.job_process")), str(folder), "INFO"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
    )


def _messages(child: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    assert child.stdout is not None
    found = [json.loads(line) for line in child.stdout]
    child.wait(timeout=60)
    for stream in (child.stdin, child.stdout, child.stderr):
        assert stream is not None
        stream.close()
    return found


def test_the_child_tells_its_progress_and_then_the_outcome_and_leaves_its_inputs_alone(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "job"
    kept.mkdir()
    folder.mkdir()
    _lay_out(kept, "int8", models.classifier(), _images())
    for file in kept.iterdir():
        (folder / file.name).hardlink_to(file)
    before = {file.name: file.read_bytes() for file in kept.iterdir()}
    child = _child(folder)
    *progress, last = _messages(child)
    assert child.returncode == 0
    assert Outcome.model_validate(last["outcome"]).artifact == "variant.onnx"
    assert (folder / "variant.onnx").exists()
    assert list(dict.fromkeys(message["stage"] for message in progress)) == _STAGES
    shares = [message["progress"] for message in progress]
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] <= shares[-1] <= 1.0
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == before


def test_a_breakpoint_in_the_child_ends_the_job_and_waits_for_nobody(tmp_path: Path) -> None:
    _lay_out(tmp_path, "fp16", models.classifier(), _images())
    code = (
        "import runpy; from worker import pipeline; pipeline.run = lambda *_: breakpoint();"
        " runpy.run_module('worker.job_process', run_name='__main__')"
    )
    child = _child(tmp_path, "-c", code)
    (last,) = _messages(child)
    assert child.returncode == 1
    assert last["error"].endswith("use python -m worker.rerun FOLDER")


def test_a_broken_model_is_one_error_line_for_the_client(tmp_path: Path) -> None:
    _lay_out(tmp_path, "int8", models.classifier(), _images())
    (tmp_path / "original.onnx").write_bytes(b"\x08\x08" + bytes(200))
    child = _child(tmp_path)
    last = _messages(child)[-1]
    assert child.returncode == 1
    assert last.keys() == {"error", "traceback"}
    assert str(tmp_path) not in last["error"]


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    # Samples enough for a job of minutes.
    large = np.zeros((20_000, 3, 8, 8), np.float32)
    _lay_out(tmp_path, "fp16", models.classifier(1), {"x": large}, evaluation_samples=100_000)
    child = _child(tmp_path)
    assert child.stdout is not None
    assert child.stdin is not None
    while b"evaluate" not in child.stdout.readline():
        assert child.poll() is None
    child.stdin.close()
    assert child.wait(timeout=10) == 1
    assert b"outcome" not in child.stdout.read()
    child.stdout.close()
    assert child.stderr is not None
    child.stderr.close()


class _Lines:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, line: str) -> None:
        self.messages.append(json.loads(line))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (JobFailed("the reason"), "the reason"),
        (MemoryError(), "out of memory"),
        (RuntimeError("[ONNXRuntimeError] Failed to allocate memory for requested buffer of size 9"), "out of memory"),
        (ZeroDivisionError("division by zero"), "internal error: ZeroDivisionError: division by zero"),
    ],
)
def test_every_failure_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*arguments: Any) -> Outcome:
        raise error

    _lay_out(tmp_path, "fp16", models.classifier(), None)
    monkeypatch.setattr(pipeline, "run", fail)
    lines = _Lines()
    assert job_process.main(tmp_path, Channel(lines)) == 1
    assert len(lines.messages) == 1
    assert told in lines.messages[0]["error"]


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_mobilenetv2", "cifar10_mobilenetv3"])
def test_int8_of_a_real_model_keeps_99_percent_of_its_accuracy(tmp_path: Path, name: str) -> None:
    shared = Path(__file__).parents[3] / "shared" / "models"
    if not (shared / f"{name}.onnx").exists():
        pytest.skip(f"a real model is missing: put it at {shared}/{name}.onnx")
    arrays = dict(np.load(shared / "cifar10_2000.npz"))
    spec = _lay_out(tmp_path, "int8", onnx.load(shared / f"{name}.onnx"), arrays)
    outcome = _run(spec, tmp_path)
    assert outcome.samples == 1744
    assert outcome.original.accuracy is not None
    assert outcome.original.accuracy > 0.8
    assert outcome.variant.accuracy_ratio is not None
    assert outcome.variant.accuracy_ratio > 0.99
    assert outcome.variant.agreement is not None
    assert outcome.variant.agreement > 0.97
    assert os.stat(tmp_path / "variant.onnx").st_size < 0.4 * os.stat(tmp_path / "original.onnx").st_size


def test_a_variant_beyond_its_budget_is_rejected_with_its_reasons(tmp_path: Path) -> None:
    proto, arrays = models.classifier(), _images()
    labels = answer(models.write(proto, tmp_path), arrays)[0].argmax(axis=1)
    spec = _lay_out(tmp_path, "int4", proto, {**arrays, "label": labels}, max_accuracy_drop=0.0, min_speedup=999.0)
    outcome = _run(spec, tmp_path)
    assert outcome.verdict == "rejected"
    assert any("min_speedup" in reason for reason in outcome.reasons)
    assert outcome.report["gate"]["reasons"] == outcome.reasons
    assert outcome.report["quality"]["paired_test"]["lost"] >= 0
    assert (tmp_path / "variant.onnx").is_file()


@pytest.mark.parametrize(("method", "batchable"), [("int8", True), ("dynamic", False), ("fp16", True)])
def test_batch_invariance_is_measured_not_assumed(tmp_path: Path, method: str, batchable: bool) -> None:
    images = _images()
    loudness = np.linspace(0.2, 3.0, len(images["x"]), dtype=np.float32).reshape(-1, 1, 1, 1)
    outcome = _run(_lay_out(tmp_path, method, models.classifier(), {"x": images["x"] * loudness}), tmp_path)
    assert outcome.batchable is batchable
    assert outcome.report["quality"]["batch"] == (32 if batchable else 1)


@pytest.mark.parametrize(
    ("method", "output", "outputs", "samples"),
    [
        ("fp16", "mean", {}, 64),
        ("fp16", "mean", {}, 0),
        ("fp16", "tokens", {"tokens": 1}, 0),
        ("int8", "tokens", {"tokens": 1}, 64),
    ],
)
def test_padding_that_is_harmless_is_proved(
    tmp_path: Path, method: str, output: str, outputs: dict[str, int], samples: int
) -> None:
    arrays = models.token_arrays(samples, 12) if samples else None
    proto = graphs.masked_attention(vocabulary=300, output=output)
    outcome = _run(_lay_out(tmp_path, method, proto, arrays), tmp_path)
    proved = SequenceAxes(inputs={"ids": 1, "mask": 1}, outputs=outputs)
    assert (outcome.batchable, outcome.padding, outcome.original_padding) == (True, proved, proved)
    assert outcome.report["gate"]["paddable"] is True
    assert not any("padd" in note for note in outcome.report["notes"])


@pytest.mark.parametrize(
    ("method", "output", "words"),
    [
        ("fp16", "plain mean", "zeros changes its answer"),
        ("fp16", "attention", "output 'attention'"),
        # Not even batched, which is said instead.
        ("dynamic", "plain mean", "what else is in its batch"),
    ],
)
def test_padding_that_matters_is_said_to(tmp_path: Path, method: str, output: str, words: str) -> None:
    proto = graphs.masked_attention(vocabulary=300, output=output)
    outcome = _run(_lay_out(tmp_path, method, proto, models.token_arrays(64, 12)), tmp_path)
    assert (outcome.padding, outcome.original_padding) == (None, None)
    assert outcome.report["gate"]["paddable"] is False
    assert sum("sequence" in note or "batch" in note for note in outcome.report["notes"]) == 1
    assert any(words in note for note in outcome.report["notes"])


def test_a_fixed_batch_is_not_shared(tmp_path: Path) -> None:
    outcome = _run(_lay_out(tmp_path, "int8", models.classifier(4), _images()), tmp_path)
    assert outcome.batchable is False
    assert any("batches of 4" in note for note in outcome.report["notes"])


def test_samples_unlike_those_that_calibrated_are_warned_about(tmp_path: Path) -> None:
    images = _images()["x"].copy()
    order = np.random.default_rng(0).permutation(len(images))
    images[order[48:]] *= 6.0
    outcome = _run(_lay_out(tmp_path, "int8", models.classifier(), {"x": images}), tmp_path)
    assert any("seem unlike" in note for note in outcome.report["notes"])
    assert outcome.report["calibration_coverage"]["mean"] < 0.99


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("kind", ["varied", "constant", "zero"])
def test_the_smallest_and_dullest_datasets_still_make_a_variant(tmp_path: Path, samples: int, kind: str) -> None:
    x = {"varied": _images()["x"][:samples], "constant": np.ones((samples, 3, 8, 8), np.float32)}.get(kind)
    x = np.zeros((samples, 3, 8, 8), np.float32) if x is None else x
    outcome = _run(_lay_out(tmp_path, "int8", models.classifier(), {"x": x}), tmp_path)
    assert outcome.samples == samples - samples // 2
    assert outcome.verdict in {"accepted", "rejected"}


@pytest.mark.parametrize(
    ("method", "long"), [*((method, None) for method in METHODS), ("mixed", "search"), ("qat", "train")]
)
def test_progress_of_every_stage_is_that_of_the_job_and_never_goes_back(method: str, long: str | None) -> None:
    stages: list[Any] = [*_STAGES[:3], *([long] if long else []), *_STAGES[3:]]
    lines = _Lines()
    channel = Channel(lines)
    told = job_progress(channel, method)
    for stage in stages:
        told(stage, 0.0)
        begun = lines.messages[-1]["progress"]
        told(stage, 0.5, {"text": "half"})
        told(stage, 1.0)
        channel.progress(f"after {stage}", 0.0)
        assert lines.messages[-1]["progress"] > begun
    shares = [message["progress"] for message in lines.messages]
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
