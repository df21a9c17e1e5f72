from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines import TensorSpec
from app.serving.batches import NotOneRowEach, Work, joined, may_be_joined, split


def work(*shape: int, dtype: Any = np.float32, **changes: Any) -> Work:
    return Work({"x": np.zeros(shape, dtype)}, **changes)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.sampled_from([np.float32, np.int64, np.bool_, object]))
def test_each_gets_its_own_rows_back(rows: list[int], dtype: Any) -> None:
    numbers = np.arange(sum(rows) * 3).reshape(-1, 3)
    texts = np.array([str(number).encode() for number in numbers.ravel()], dtype=object).reshape(numbers.shape)
    whole = texts if dtype is object else numbers.astype(dtype)
    pieces = np.split(whole, np.cumsum(rows)[:-1])
    works = [Work({"x": piece, "mask": piece[:, 0]}) for piece in pieces]
    assert [each.rows for each in works] == rows
    assert len({each.signature() for each in works}) == 1
    feeds = joined(works)
    np.testing.assert_array_equal(feeds["x"], whole)
    for (x, mask), piece in zip(split([feeds["x"], feeds["mask"]], rows), pieces, strict=True):
        np.testing.assert_array_equal(x, piece)
        np.testing.assert_array_equal(mask, piece[:, 0])
        assert x.dtype == whole.dtype


def test_one_alone_is_passed_on_without_a_copy() -> None:
    alone = work(3, 2)
    assert joined([alone]) is alone.feeds
    # Whatever the first axis of its outputs is.
    outputs = [np.zeros((7, 2)), np.zeros(())]
    assert split(outputs, [3]) == [outputs]


@pytest.mark.parametrize(
    "other",
    [
        work(2, 4),
        work(2, 3, 1),
        work(2, 3, dtype=np.float64),
        work(2, 3, outputs=("y",)),
        Work({"z": np.zeros((2, 3), np.float32)}),
    ],
)
def test_different_shapes_types_and_outputs_are_not_joined(other: Work) -> None:
    assert other.signature() is not None
    assert other.signature() != work(2, 3).signature()
    assert work(5, 3, priority=1, timeout_us=7).signature() == work(2, 3).signature()


@pytest.mark.parametrize(
    "alone",
    [
        work(),
        work(0, 3),
        Work({}),
        Work({"x": np.zeros((2, 3)), "y": np.zeros((1, 3))}),
        Work({"x": np.zeros((1, 3)), "scale": np.zeros(())}),
    ],
)
def test_what_has_no_rows_is_joined_with_nothing(alone: Work) -> None:
    assert alone.signature() is None
    assert alone.rows == 1


@pytest.mark.parametrize("shape", [(), (4, 2), (1, 5)])
def test_an_output_without_a_row_for_each_cannot_be_split(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotOneRowEach, match="batch of 5 rows"):
        split([np.zeros((5, 2)), np.zeros(shape)], [2, 3])


def test_only_models_with_a_first_axis_of_any_length_take_batches() -> None:
    dynamic, fixed, scalar = (TensorSpec("x", "FP32", shape) for shape in ((-1, 3), (1, 3), ()))
    assert may_be_joined([dynamic, dynamic], [dynamic])
    for other in (fixed, scalar):
        assert not may_be_joined([dynamic, other], [dynamic])
        assert not may_be_joined([dynamic], [other])
