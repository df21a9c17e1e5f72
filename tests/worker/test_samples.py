"""What a model is fed."""

from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from app import engines
from app.engines import TensorSpec
from app.errors import DatasetMismatch, JobFailed
from tests.worker import models
from worker.samples import Feeder, made_up


@given(
    samples=st.integers(1, 40),
    fixed=st.one_of(st.none(), st.integers(1, 7)),
    batch=st.one_of(st.none(), st.integers(1, 50)),
)
def test_every_sample_is_fed_once_in_order_and_a_fixed_batch_is_filled(
    samples: int, fixed: int | None, batch: int | None
) -> None:
    x = np.arange(200, dtype=np.float32).reshape(100, 2)
    feeder = Feeder([TensorSpec("x", "FP32", (fixed or -1, 2))], {"x": x})
    chosen = np.random.default_rng(samples).permutation(100)[:samples]
    batches = list(feeder.batches(chosen, batch))
    assert len(batches) == feeder.batch_count(samples, batch)
    fed = np.concatenate([b.feeds["x"][: len(b)] for b in batches])
    np.testing.assert_array_equal(fed, x[chosen])
    np.testing.assert_array_equal(np.concatenate([b.indices for b in batches]), chosen)
    sizes = {len(b.feeds["x"]) for b in batches}
    if fixed is not None:
        assert sizes == {fixed}
        np.testing.assert_array_equal(
            batches[-1].feeds["x"][len(batches[-1]) :], x[chosen[-1:]].repeat(fixed - len(batches[-1]), axis=0)
        )
    elif batch is not None:
        assert max(sizes) <= batch


def test_a_batch_of_large_samples_is_small() -> None:
    small = Feeder([TensorSpec("x", "FP32", (-1, 2))], {"x": np.zeros((9, 2), np.float32)})
    large = Feeder([TensorSpec("x", "FP32", (-1, 2**19))], {"x": np.zeros((9, 2**19), np.float32)})
    huge = Feeder([TensorSpec("x", "FP32", (-1, 2**22))], {"x": np.zeros((1, 2**22), np.float32)})
    assert (small.natural_batch, large.natural_batch, huge.natural_batch) == (32, 2, 1)


def test_inputs_with_different_fixed_batches_are_refused() -> None:
    specs = [TensorSpec("a", "FP32", (2, 1)), TensorSpec("b", "FP32", (3, 1))]
    with pytest.raises(JobFailed, match=r"different fixed batch sizes \[2, 3\]"):
        Feeder(specs, {name: np.zeros((4, 1), np.float32) for name in "ab"})


def test_arrays_that_are_no_inputs_are_ignored_and_missing_ones_told() -> None:
    spec = TensorSpec("x", "FP32", (-1,))
    x = np.zeros(4, np.float32)
    (batch,) = Feeder([spec], {"x": x, "other": x}).batches(np.arange(4))
    assert batch.feeds.keys() == {"x"}
    with pytest.raises(DatasetMismatch, match="input 'x' has no array of that name in the dataset, which has other"):
        Feeder([spec], {"other": x})


def test_a_made_up_request_finds_an_extent_that_the_model_takes(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    proto = models.model([node], {"x": ["n", 1, "h", "w_"]}, {"y": None}, {"w": models.normal(1, 1, 40, 40)})
    path = models.write(proto, tmp_path)
    feeds = made_up(engines.get("onnxruntime").load(path, intra_op_threads=1), seed=0)
    assert feeds["x"].shape == (1, 1, 64, 64)


def test_a_made_up_request_has_the_types_of_the_inputs_and_is_the_same_each_time(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["f"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "x"], ["y"], "add"),
    ]
    proto = models.model(nodes, {"ids": (TensorProto.INT64, ["n", 3]), "x": ["n", 3]}, {"y": ["n", 3]})
    loaded = engines.get("onnxruntime").load(models.write(proto, tmp_path), intra_op_threads=1)
    first, again = made_up(loaded, seed=3), made_up(loaded, seed=3)
    assert first["ids"].dtype == np.int64
    assert not first["ids"].any()
    assert np.abs(first["x"]).min() > 0
    np.testing.assert_array_equal(first["x"], again["x"])


def test_a_model_that_takes_nothing_made_up_asks_for_a_dataset(tmp_path: Path) -> None:
    proto = models.model(
        [helper.make_node("Reshape", ["x", "to"], ["y"], "r")],
        {"x": ["n", "m"]},
        {"y": None},
        {"to": np.array([7, 11, 13], np.int64)},
    )
    loaded = engines.get("onnxruntime").load(models.write(proto, tmp_path), intra_op_threads=1)
    with pytest.raises(JobFailed, match="name a dataset"):
        made_up(loaded, seed=0)


def test_a_mapped_dataset_takes_no_memory_beyond_the_batch(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((4096, 2048)).astype(np.float32)
    values.tofile(tmp_path / "values")
    mapped = np.asarray(np.memmap(tmp_path / "values", np.float32, "r", shape=values.shape))
    feeder = Feeder([TensorSpec("x", "FP32", (-1, 2048))], {"x": mapped})
    before = psutil.Process().memory_info().shared
    for batch in feeder.batches(np.arange(4096)):
        np.testing.assert_array_equal(batch.feeds["x"], values[batch.indices])
    assert psutil.Process().memory_info().shared - before < values.nbytes // 2
