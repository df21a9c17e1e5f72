"""Sequences of different length: which go together, and what each gets back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.engine import Array
from app.serving.batches import Work, joined, split
from app.serving.padding import NotPadded, Padding, bucket

PADDING = Padding((("ids", 1), ("mask", 1), ("frames", 2)), (("tokens", 1), ("late", 2)))
OUTPUTS = ("tokens", "mean", "late")


def work(length: int, rows: int = 1, *, width: int = 3, seed: int = 0) -> Work:
    random = np.random.default_rng(seed)
    return Work(
        {
            "ids": random.integers(1, 9, (rows, length)),
            "mask": np.ones((rows, length), np.int64),
            "frames": random.normal(size=(rows, width, length)).astype(np.float32),
            "speaker": random.integers(1, 9, (rows, 2)),
        },
        OUTPUTS,
    )


def answers(work: Work, feeds: dict[str, Array] | None = None) -> list[Array]:
    """What a model would that heeds the mask."""
    feeds = feeds or dict(work.feeds)
    tokens = feeds["ids"] * feeds["mask"]
    return [tokens, tokens.sum(axis=1) + feeds["speaker"][:, 0], feeds["frames"] * 2]


@given(st.integers(0, 5000))
def test_a_bucket_adds_less_than_a_quarter(length: int) -> None:
    border = bucket(length)
    assert length <= border
    assert border <= 8 or border < length * 1.25
    assert bucket(border) == border
    assert bucket(length + 1) >= border


def test_the_borders_are_four_an_octave() -> None:
    assert sorted({bucket(length) for length in range(41)}) == [0, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40]


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 4)), min_size=1, max_size=8))
def test_each_gets_back_what_it_would_have_got_alone(sizes: list[tuple[int, int]]) -> None:
    works = [work(length, rows, seed=number) for number, (length, rows) in enumerate(sizes)]
    feeds = dict(joined(works))
    longest = max(length for length, _ in sizes)
    rows = [rows for _, rows in sizes]
    assert feeds["ids"].shape == feeds["mask"].shape == (sum(rows), longest)
    assert feeds["frames"].shape == (sum(rows), 3, longest)
    assert {name: array.dtype for name, array in feeds.items()} == {
        name: array.dtype for name, array in works[0].feeds.items()
    }
    assert feeds["mask"].sum() == sum(length * count for length, count in sizes)
    lengths = PADDING.unequal([each.feeds for each in works])
    assert lengths == ([length for length, _ in sizes] if len({length for length, _ in sizes}) > 1 else None)
    arrays = answers(works[0], feeds)
    PADDING.check_padded(OUTPUTS, arrays, longest)
    for each, (length, _), part in zip(works, sizes, split(arrays, rows), strict=True):
        for got, alone in zip(PADDING.cut(OUTPUTS, part, length), answers(each), strict=True):
            np.testing.assert_array_equal(got, alone)


@given(st.integers(1, 200), st.integers(1, 200))
def test_lengths_of_one_bucket_are_joined(left: int, right: int) -> None:
    together = work(left).signature(PADDING) == work(right).signature(PADDING)
    assert together is (bucket(left) == bucket(right))
    assert (work(left).signature() == work(right).signature()) is (left == right)


def test_everything_but_the_length_must_still_be_equal() -> None:
    for other in (work(10, width=4), Work(work(10).feeds, ("mean",))):
        assert other.signature(PADDING) != work(10).signature(PADDING)
    assert work(10, 3).signature(PADDING) == work(9).signature(PADDING)


def test_inputs_that_disagree_about_the_length_are_joined_with_their_like_alone() -> None:
    """The model refuses them, and nobody else's answer may depend on that."""
    feeds = dict(work(9).feeds) | {"mask": np.ones((1, 10), np.int64)}
    assert PADDING.length(feeds) is None
    odd = Work(feeds, OUTPUTS)
    assert odd.signature(PADDING) == odd.signature()
    assert odd.signature(PADDING) not in {work(length).signature(PADDING) for length in (9, 10)}


def test_nothing_is_padded_to_something() -> None:
    assert work(0).signature(PADDING) != work(1).signature(PADDING)


@pytest.mark.parametrize("shape", [(), (2,), (2, 9), (2, 11, 1)])
def test_an_output_that_is_not_as_long_as_was_proved_cannot_be_cut(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotPadded, match="padded to 10"):
        PADDING.check_padded(["mean", "tokens"], [np.zeros(3), np.zeros(shape)], 10)
