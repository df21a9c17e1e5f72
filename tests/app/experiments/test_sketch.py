import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.experiments.sketch import GROUPS, RELATIVE_ERROR, Latencies, Sketch

HOUR_NS = 3_600_000_000_000
latencies = st.lists(st.integers(1000, HOUR_NS), max_size=200)


def sketch_of(values: list[int]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


def merged(*sketches: Sketch) -> Sketch:
    sketch = Sketch()
    for each in sketches:
        sketch.merge(each)
    return sketch


@given(latencies.filter(bool), st.floats(0, 1))
def test_quantiles_are_off_by_one_percent_at_most(values: list[int], q: float) -> None:
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert sketch_of(values).quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR * (1 + 1e-9))


def test_quantiles_are_numpys() -> None:
    values = np.random.default_rng(1).lognormal(15, 2, 10_001).astype(np.int64)
    sketch = sketch_of(values.tolist())
    for q in (0, 0.5, 0.9, 0.95, 0.99, 1):
        assert sketch.quantile(q) == pytest.approx(np.quantile(values, q, method="lower"), rel=RELATIVE_ERROR)


@given(latencies, latencies, latencies)
def test_merging_is_counting_all_together(first: list[int], second: list[int], third: list[int]) -> None:
    one, two, three = map(sketch_of, (first, second, third))
    together = sketch_of(first + second + third)
    assert merged(one, two, three) == together
    assert merged(one, merged(two, three)) == together
    assert merged(merged(three, two), one) == together
    assert together.count == len(first + second + third)


@given(latencies)
def test_a_sketch_comes_back_from_json(values: list[int]) -> None:
    sketch = sketch_of(values)
    assert Sketch.from_json(json.loads(json.dumps(sketch.to_json()))) == sketch


@given(latencies.filter(bool))
def test_what_is_below_is_counted(values: list[int]) -> None:
    sketch = sketch_of(values)
    assert sketch.below(max(values)) == len(values)
    assert sketch.below(min(values) * 0.97) == 0


def test_what_is_less_than_one_counts_as_one() -> None:
    assert sketch_of([0, -5, 1]).quantile(1) == pytest.approx(1, rel=RELATIVE_ERROR)


def test_from_a_microsecond_to_an_hour_there_are_few_classes() -> None:
    sketch = Sketch()
    for exponent in np.linspace(3, math.log10(HOUR_NS), 20_000):
        sketch.add(10**exponent)
    assert len(sketch.counts) <= 1101


def test_an_empty_sketch_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="no value of rank"):
        Sketch().quantile(0.5)


def test_ranks_are_read_in_one_pass() -> None:
    sketch = sketch_of([1000, 2000, 2000, 4000])
    assert sketch.ranked([0, 1, 2, 3]) == pytest.approx([1000, 2000, 2000, 4000], rel=RELATIVE_ERROR)
    with pytest.raises(ValueError, match="rank 4 among 4"):
        sketch.ranked([3, 4])


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1000, HOUR_NS)), max_size=100))
def test_latencies_are_those_of_their_groups(added: list[tuple[int, int]]) -> None:
    whole, one, two = Latencies(), Latencies(), Latencies()
    for index, (bucket, ns) in enumerate(added):
        whole.add(bucket, ns)
        (one if index % 2 else two).add(bucket, ns)
    one.merge(two)
    assert one == whole
    assert whole.total == sketch_of([ns for _, ns in added])
    assert {bucket % GROUPS for bucket, _ in added} == {i for i, group in enumerate(whole.groups) if group.count}
    assert Latencies.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_how_much_logarithms_vary_is_known_about() -> None:
    values = np.random.default_rng(1).lognormal(15, 0.5, 5000)
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    assert sketch.log_deviation == pytest.approx(np.log(values).std(), rel=0.01)
    assert Sketch().log_deviation == 0
