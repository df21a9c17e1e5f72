"""Models in processes of their own, real ones."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from app import engines
from app.confinement import confinement
from app.engines.warming import zeros
from app.errors import Crashed, Invalid, InvalidModel, TooMuchMemory
from app.isolation.engine import IsolatedEngine, Limits, RunnerModel
from tests import graphs

pytestmark = pytest.mark.e2e

MIB = 1024**2


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    made = IsolatedEngine("onnxruntime", Limits(512 * MIB, run_seconds=60))
    yield made
    made.close()


@pytest.fixture
def loaded(engine: IsolatedEngine, tmp_path: Path) -> Iterator[Any]:
    models: list[RunnerModel] = []

    def load(proto: onnx.ModelProto, engine: IsolatedEngine = engine, **options: Any) -> RunnerModel:
        folder = tmp_path / str(len(models))
        folder.mkdir()
        models.append(engine.load(graphs.save(proto, folder / "model.onnx"), intra_op_threads=1, **options))
        return models[-1]

    yield load
    for model in models:
        model.close()


def _tensor(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def growing() -> onnx.ModelProto:
    """Its output is as large as the request says."""
    return _model(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"])],
        [_tensor("shape", TensorProto.INT64, [1])],
        [_tensor("y", TensorProto.FLOAT, ["n"])],
    )


def endless() -> onnx.ModelProto:
    """It runs for as many rounds as the request says."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["before"], ["after"])],
        "body",
        [_tensor("round", TensorProto.INT64, []), _tensor("go", TensorProto.BOOL, []), _tensor("before", 1, [64])],
        [_tensor("on", TensorProto.BOOL, []), _tensor("after", 1, [64])],
    )
    return _model(
        [helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body)],
        [_tensor("rounds", TensorProto.INT64, []), _tensor("x", 1, [64])],
        [_tensor("y", 1, [64])],
    )


def strings() -> onnx.ModelProto:
    return _model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [_tensor("x", TensorProto.STRING, ["n"])],
        [_tensor("y", TensorProto.STRING, ["n"])],
    )


def test_it_answers_bit_by_bit_as_in_this_process(loaded: Any, tmp_path: Path) -> None:
    proto = graphs.linear_classifier()
    here = engines.get("onnxruntime").load(graphs.save(proto, tmp_path / "here.onnx"), intra_op_threads=1)
    there = loaded(proto)
    assert (there.inputs, there.outputs) == (here.inputs, here.outputs)
    (spec,) = here.inputs
    for rows in (1, 3, 500):
        feeds = {spec.name: np.random.default_rng(rows).standard_normal((rows, *spec.shape[1:])).astype(np.float32)}
        for outputs in (None, [here.outputs[0].name]):
            for mine, its in zip(here.run(feeds, outputs), there.run(feeds, outputs), strict=True):
                assert mine.tobytes() == its.tobytes()


def test_answers_of_any_size_come_whole(loaded: Any) -> None:
    model = loaded(growing())
    for size in (1, 10_000_000, 0, 100):
        (answer,) = model.run({"shape": np.array([size])})
        assert answer.shape == (size,)
        assert not answer.any()


def test_strings_go_there_and_back(loaded: Any) -> None:
    model = loaded(strings())
    text = np.array([b"", "früh".encode(), b"x" * 70_000], np.object_)
    assert model.run({"x": text})[0].tolist() == text.tolist()
    with pytest.raises(Invalid, match="UTF-8"):
        model.run({"x": np.array([b"\xff"], np.object_)})


def test_threads_run_it_at_the_same_time_and_each_gets_its_own_answer(loaded: Any) -> None:
    model = loaded(strings())

    def run(number: int) -> bool:
        text = str(number).encode()
        return all(model.run({"x": np.array([text], np.object_)})[0].tolist() == [text] for _ in range(50))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(run, range(8)))


def test_what_the_model_refuses_is_refused_in_the_same_words(loaded: Any, tmp_path: Path) -> None:
    proto = graphs.linear_classifier()
    here = engines.get("onnxruntime").load(graphs.save(proto, tmp_path / "here.onnx"), intra_op_threads=1)
    there = loaded(proto)
    wrong = {here.inputs[0].name: np.zeros((1, 1), np.float32)}
    with pytest.raises(Invalid) as expected:
        here.run(wrong)
    with pytest.raises(Invalid) as got:
        there.run(wrong)
    assert got.value.detail == expected.value.detail
    assert there.run({spec.name: zeros(spec) for spec in there.inputs})


def test_what_cannot_be_loaded_is_said_to_be_so(engine: IsolatedEngine, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(InvalidModel, match="failed to load"):
        engine.load(path, intra_op_threads=1)


def test_one_that_asks_for_too_much_memory_is_refused_and_lives(loaded: Any) -> None:
    model = loaded(growing())
    with pytest.raises(TooMuchMemory):
        model.run({"shape": np.array([4 * 1024**3])})
    assert model.run({"shape": np.array([2])})[0].tolist() == [0, 0]
    assert not model.is_dead


def test_one_that_hangs_is_ended(loaded: Any) -> None:
    impatient = IsolatedEngine("onnxruntime", Limits(512 * MIB, run_seconds=0.5))
    model = loaded(endless(), impatient)
    x = np.zeros(64, np.float32)
    assert model.run({"rounds": np.array(3), "x": x})[0].shape == (64,)
    with pytest.raises(Crashed, match=r"longer than 0\.5 s") as ended:
        model.run({"rounds": np.array(1 << 60), "x": x})
    assert not ended.value.before
    assert model.is_dead
    assert not psutil.pid_exists(model.process)
    impatient.close()


@pytest.mark.parametrize(("number", "words"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "want of memory")])
def test_who_runs_it_while_it_crashes_is_told_and_who_comes_later_too(loaded: Any, number: int, words: str) -> None:
    model = loaded(endless())
    x = np.zeros(64, np.float32)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(model.run, {"rounds": np.array(1 << 60), "x": x})
        process = psutil.Process(model.process)
        while process.cpu_times().user < 0.1:
            assert not running.done()
        os.kill(model.process, number)
        with pytest.raises(Crashed, match=words) as ended:
            running.result(30)
    assert not ended.value.before
    with pytest.raises(Crashed, match=words) as later:
        model.run({"rounds": np.array(1), "x": x})
    assert later.value.before


def test_closing_it_ends_its_process(loaded: Any) -> None:
    model = loaded(graphs.linear_classifier())
    assert model.resident_bytes() > 1000
    model.close()
    assert not psutil.pid_exists(model.process)
    assert model.resident_bytes() == 0


def test_what_it_saves_is_loaded_mapped(engine: IsolatedEngine, loaded: Any, tmp_path: Path) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    made.mkdir()
    proto = graphs.linear_classifier(features=512, classes=128)
    path = graphs.save(proto, source / "model.onnx")
    name = engine.save(path, made)
    saved = engine.load(made / name, intra_op_threads=1, saved=True)
    plain = loaded(proto)
    feeds = {spec.name: zeros(spec) + 1 for spec in plain.inputs}
    assert saved.run(feeds)[0].tobytes() == plain.run(feeds)[0].tobytes()
    saved.close()


def test_processes_end_with_their_gateway(tmp_path: Path) -> None:
    engine = IsolatedEngine("onnxruntime", Limits(512 * MIB, run_seconds=60))
    model = engine.load(graphs.save(graphs.linear_classifier(), tmp_path / "model.onnx"), intra_op_threads=1)
    process = psutil.Process(model.process)
    engine.close()
    process.wait(10)


def test_a_nursery_that_was_killed_is_replaced(loaded: Any) -> None:
    engine = IsolatedEngine("onnxruntime", Limits(512 * MIB, run_seconds=60))
    first = loaded(graphs.linear_classifier(), engine)
    (nursery,) = engine.processes()
    os.kill(nursery, signal.SIGKILL)
    psutil.Process(first.process).wait(10)
    second = loaded(graphs.linear_classifier(), engine)
    assert second.run({spec.name: zeros(spec) for spec in second.inputs})
    engine.close()


@pytest.mark.skipif(not confinement().is_complete, reason="needs Linux 6.12 or newer with landlock enabled")
def test_its_process_is_confined(loaded: Any) -> None:
    model = loaded(graphs.linear_classifier())
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{model.process}/status").read_text().splitlines() if ":\t" in line
    )
    assert (status["NoNewPrivs"], status["Seccomp"], status["CapEff"]) == ("1", "2", "0" * 16)
    limits = {
        line[:26].strip(): line[26:].split()[0]
        for line in Path(f"/proc/{model.process}/limits").read_text().splitlines()[1:]
    }
    assert limits["Max file size"] == "0"
    assert int(limits["Max address space"]) < 8 * 1024**3
    opened = {os.readlink(entry) for entry in Path(f"/proc/{model.process}/fd").iterdir()}
    assert all(name == "/dev/null" or name.startswith(("socket:", "/memfd:octet")) for name in opened), opened
    assert Path(f"/proc/{model.process}/oom_score_adj").read_text().strip() == "1000"
