"""Embedding tables in 8 bits."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.worker import models
from tests.worker.runtime import run
from worker.evaluation.fidelity import sqnr_db
from worker.graph.embeddings import quantize, rounded


def test_rows_and_columns_of_any_reach_keep_their_precision() -> None:
    table = models.normal(300, 64)
    table[:, 5] *= 50.0
    table[7] *= 1e-3
    integers, rows, columns = rounded(table)
    restored = integers * columns * rows[:, None]
    assert integers.dtype == np.int8
    assert sqnr_db(table, restored) > 38.0
    assert sqnr_db(table[7], restored[7]) > 25.0
    assert sqnr_db(np.delete(table, 5, axis=1), np.delete(restored, 5, axis=1)) > 38.0


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 8)),
        elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
    )
)
def test_no_element_is_further_off_than_half_a_step(table: NDArray[np.float32]) -> None:
    integers, rows, columns = rounded(table)
    step = columns * rows[:, None]
    assert (np.abs(integers * step - table) <= 0.501 * step + np.abs(table) * 1e-5 + 1e-25).all()


def test_the_rewritten_graph_looks_up_the_same(tmp_path: Path) -> None:
    model = models.token_encoder()
    feeds = models.token_arrays(32)
    expected = run(models.write(model, tmp_path), feeds)[0]
    before = model.ByteSize()
    quantize(model, frozenset({"lookup"}))
    onnx.checker.check_model(model)
    assert run(models.write(model, tmp_path), feeds)[0] == pytest.approx(expected, abs=0.02)
    assert model.ByteSize() < 0.6 * before
    assert "table" not in {tensor.name for tensor in model.graph.initializer}
    assert "e" in {name for node in model.graph.node for name in node.output}
