"""Latencies in few numbers."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.evaluation.distribution import Distribution, distribution

_SECONDS = st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=200).map(np.array)


@given(_SECONDS, _SECONDS)
def test_every_request_is_counted_once(original: NDArray[np.float64], variant: NDArray[np.float64]) -> None:
    found = distribution(original, variant)
    assert found.variant is not None
    assert found.slower_variant is not None
    assert sum(found.original) + found.slower_original == len(original)
    assert sum(found.variant) + found.slower_variant == len(variant)
    assert len(found.original) == len(found.variant) == len(found.edges_ms) - 1
    assert all(low < high for low, high in zip(found.edges_ms, found.edges_ms[1:], strict=False))


@given(_SECONDS)
def test_a_bin_holds_what_lies_between_its_edges(seconds: NDArray[np.float64]) -> None:
    found = distribution(seconds)
    counts, _ = np.histogram(seconds * 1e3, [0.0, *found.edges_ms[1:-1], np.inf])
    # The last bin of these holds what is slower as well.
    assert [*found.original[:-1], found.original[-1] + found.slower_original] == counts.tolist()


def test_a_few_slow_requests_do_not_squeeze_the_others() -> None:
    seconds = np.concatenate([np.linspace(1e-3, 1.2e-3, 97), [0.5, 0.6, 0.7]])
    found = distribution(seconds)
    assert found.slower_original == 3
    assert sum(count > 0 for count in found.original) > 3


def test_requests_that_all_took_the_same_are_in_one_bin() -> None:
    found = distribution(np.full(10, 2e-3))
    assert (found.original[0], found.slower_original) == (10, 0)


def test_it_is_small_and_strict_json() -> None:
    found = distribution(np.random.default_rng(0).lognormal(size=2000))
    text = json.dumps(found.as_json(), allow_nan=False)
    assert len(text) < 1500
    assert found.as_json()["variant"] is None
    assert isinstance(found, Distribution)
