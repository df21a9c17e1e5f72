"""Latencies in pairs, and the interval of their ratio."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.evaluation.fakes import Array, FakeModel
from worker.evaluation.latency import Percentiles, measure, speedup_interval

_REQUESTS = [{"x": np.full((1, 4), value, np.float32)} for value in range(3)]


def test_models_are_measured_in_pairs_in_an_order_that_is_drawn() -> None:
    calls: list[str] = []

    def answering(name: str) -> FakeModel:
        def run(x: Array) -> list[Array]:
            calls.append(name)
            return [x]

        return FakeModel(run)

    found = measure(answering("o"), answering("v"), _REQUESTS, seed=0, seconds=0.01, progress=lambda share: None)
    measured = calls[-2 * found.pairs :]
    pairs = [tuple(measured[i : i + 2]) for i in range(0, len(measured), 2)]
    assert set(pairs) == {("o", "v"), ("v", "o")}
    assert found.pairs >= 60
    assert calls[: -2 * found.pairs], "nothing was run to warm up"


def test_a_slow_model_is_still_measured_ten_times() -> None:
    def slow(x: Array) -> list[Array]:
        time.sleep(0.004)
        return [x]

    found = measure(FakeModel(slow), FakeModel(slow), _REQUESTS, seed=0, seconds=0.01, progress=lambda share: None)
    assert found.pairs == 10


def test_progress_never_leaves_zero_to_one() -> None:
    told: list[float] = []
    model = FakeModel(lambda x: [x])
    measure(model, model, _REQUESTS, seed=0, seconds=0.05, progress=told.append)
    assert told
    assert all(0.0 <= share <= 1.0 for share in told)


def test_percentiles_are_in_milliseconds() -> None:
    found = Percentiles.of(np.arange(1, 102) / 1e3)
    assert found == Percentiles(p50=pytest.approx(51.0), p95=pytest.approx(96.0), p99=pytest.approx(100.0))


@given(count=st.integers(10, 80), ratio=st.floats(0.2, 5.0), noise=st.floats(0.0, 0.5), seed=st.integers(0, 2**32 - 1))
def test_the_interval_holds_the_ratio_of_the_medians(count: int, ratio: float, noise: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    variant = 1e-3 * (1 + noise * random.random(count))
    pairs = np.column_stack([ratio * variant * (1 + noise * random.random(count)), variant])
    low, high = speedup_interval(pairs, seed=seed, resamples=400)
    observed = np.median(pairs[:, 0]) / np.median(pairs[:, 1])
    assert low <= observed * (1 + 1e-9)
    assert high >= observed * (1 - 1e-9)


def test_without_noise_the_interval_is_the_ratio() -> None:
    pairs = np.tile([3.0, 1.5], (20, 1))
    assert speedup_interval(pairs, seed=0) == (2.0, 2.0)


def test_a_disturbance_that_hits_both_runs_of_a_pair_does_not_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    disturbance = random.lognormal(0, 0.5, 201)
    together = np.column_stack([2 * disturbance, disturbance])
    apart = np.column_stack([2 * disturbance, random.permutation(disturbance)])
    widths = [high - low for low, high in (speedup_interval(pairs, seed=1) for pairs in (together, apart))]
    assert widths[0] < 0.1 * widths[1]


def test_in_19_of_20_cases_the_interval_holds_the_true_ratio() -> None:
    random = np.random.default_rng(7)
    hits = 0
    for trial in range(200):
        pairs = np.column_stack([random.lognormal(0.0, 0.2, 80), random.lognormal(-0.5, 0.2, 80)])
        low, high = speedup_interval(pairs, seed=trial, resamples=300)
        hits += low <= np.exp(0.5) <= high
    # 190 expected; binomial, three standard deviations and the bootstrap's own slack.
    assert 178 <= hits <= 200
