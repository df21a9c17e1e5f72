import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.experiments.assignment import BUCKETS
from app.experiments.moments import Clusters, Moments

values = st.lists(st.floats(-1000, 1000), max_size=30)


def test_of_single_values_it_is_the_mean_and_its_variance() -> None:
    numbers = np.random.default_rng(1).normal(3, 2, 1000)
    moments = Moments.of(numbers.tolist())
    assert moments.rate == pytest.approx(numbers.mean())
    assert moments.variance == pytest.approx(numbers.var(ddof=1) / 1000)
    assert moments.effective_clusters == pytest.approx(1000)


def test_sums_are_enough_for_single_values() -> None:
    numbers = [0.5, 2.0, 4.0]
    same = Moments.of_values(3, sum(numbers), sum(number**2 for number in numbers))
    assert vars(same) == pytest.approx(vars(Moments.of(numbers)))


def test_the_variance_of_a_rate_is_that_of_clusters_drawn_again() -> None:
    rng = np.random.default_rng(2)
    chances, sizes = rng.beta(1, 9, (2000, 300)), rng.geometric(0.1, (2000, 300))
    errors = rng.binomial(sizes, chances)
    rates = errors.sum(1) / sizes.sum(1)
    said = np.mean([Moments.of(errors[i].tolist(), sizes[i].tolist()).variance for i in range(200)])
    assert said == pytest.approx(rates.var(), rel=0.1)
    # As if requests were independent, it would be said to be half of that.
    assert said > 1.8 * np.mean(rates * (1 - rates) / sizes.sum(1))


@given(values, values, values)
def test_merging_is_counting_all_together(first: list[float], second: list[float], third: list[float]) -> None:
    parts = [Moments.of(each) for each in (first, second, third)]
    together = Moments.of(first + second + third)
    for merged in (parts[0].merged(parts[1]).merged(parts[2]), parts[2].merged(parts[0].merged(parts[1]))):
        assert vars(merged) == pytest.approx(vars(together), rel=1e-9, abs=1e-6)


def test_buckets_are_clusters_however_their_requests_came() -> None:
    rng = np.random.default_rng(3)
    buckets, errors = rng.integers(0, BUCKETS, 500).tolist(), rng.integers(0, 2, 500).tolist()
    whole, one, two = Clusters(), Clusters(), Clusters()
    for index, (bucket, error) in enumerate(zip(buckets, errors, strict=True)):
        whole.add(bucket, error)
        (one if index % 3 else two).add(bucket, error)
    one.merge(two)
    assert one == whole
    seen = sorted(set(buckets))
    pairs = list(zip(buckets, errors, strict=True))
    sums = [sum(error for bucket, error in pairs if bucket == each) for each in seen]
    assert whole.moments == Moments.of(sums, [buckets.count(each) for each in seen])


@given(st.lists(st.tuples(st.integers(0, BUCKETS - 1), st.floats(-10, 10)), max_size=50))
def test_clusters_come_back_from_json(added: list[tuple[int, float]]) -> None:
    clusters = Clusters()
    for bucket, value in added:
        clusters.add(bucket, value)
    assert Clusters.from_json(json.loads(json.dumps(clusters.to_json()))) == clusters


def test_one_value_beyond_one_makes_it_no_proportion() -> None:
    clusters = Clusters()
    clusters.add(7, 1)
    assert clusters.moments.proportion
    clusters.add(7, 2.5)
    clusters.add(7, 0)
    clusters.add(7, 0)
    assert not clusters.moments.proportion
    clusters.merge(Clusters())
    assert not clusters.moments.proportion


def test_of_nothing_nothing_is_said() -> None:
    assert (Moments().rate, Moments().variance, Moments().effective_clusters) == (0, 0, 0)
    assert Moments.of([3.0]).variance == 0


def test_of_few_large_clusters_few_count() -> None:
    moments = Moments.of([1, 0, 0, 0], [1000, 1, 1, 1])
    assert moments.effective_clusters == pytest.approx(1, rel=0.01)
