"""That whoever looks after each 100 units is not misled: simulated experiments, by the hundreds, with fixed seeds.

Each claim is that at most ALPHA of experiments are misled. 200 of them tell a method that misleads twice as often from
a good one: of 200 experiments that mislead with a chance of 10%, 10 or fewer do so in 0.8% of cases. With a chance of
20%, which is what looking again and again without correction comes to, it is 1 case of a billion. `make test-all`
simulates 1,000.
"""

from collections.abc import Callable
from math import log

import numpy as np
import pytest

from app.experiments.assignment import BUCKETS
from app.experiments.differences import difference, quantile_ratio
from app.experiments.evidence import Evidence
from app.experiments.guardrails import Guardrail
from app.experiments.judgement import Result, judge
from app.experiments.moments import Moments
from app.experiments.paired import mcnemar, mean
from app.experiments.pairs import Pairs
from app.experiments.sample_ratio import sample_ratio
from app.experiments.sequences import log_capital, quantile_ranks
from app.experiments.sketch import Latencies

pytestmark = pytest.mark.e2e

Array = np.ndarray
ALPHA = 0.05
PEEKS = np.arange(100, 10_001, 100)
repeated = pytest.mark.parametrize("experiments", [200, pytest.param(1_000, marks=pytest.mark.slow)])


def chance_of(part: float) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, count: (rng.random(count) < part).astype(float)


def sums(values: Array, *, proportion: bool, step: int = 50) -> list[Moments]:
    """After each `step` values: 50 is what an arm of two has of 100 units."""
    ends = np.arange(step, len(values) + 1, step) - 1
    totals, squares = np.cumsum(values)[ends].tolist(), np.cumsum(values**2)[ends].tolist()
    return [
        Moments.of_values(int(end) + 1, total, square, proportion=proportion)
        for end, total, square in zip(ends, totals, squares, strict=True)
    ]


def alarms(
    control: Callable[[np.random.Generator, int], Array],
    arm: Callable[[np.random.Generator, int], Array],
    *,
    truth: float = 0.0,
    proportion: bool = True,
    weights: tuple[int, int] = (50, 50),
    experiments: int,
    peeks: int = len(PEEKS),
) -> float:
    """The part of experiments in which the truth was ever outside of the interval."""
    rng = np.random.default_rng(20260101)
    misled = 0
    for _ in range(experiments):
        its, mine = (
            sums(draw(rng, weight * peeks), proportion=proportion, step=weight)
            for draw, weight in zip((control, arm), weights, strict=True)
        )
        misled += _misled(its, mine, truth)
    return misled / experiments


def _misled(control: list[Moments], arm: list[Moments], truth: float = 0.0) -> bool:
    intervals = (difference(its, mine, ALPHA) for its, mine in zip(control, arm, strict=True))
    return any(not interval.low <= truth <= interval.high for interval in intervals)


@repeated
@pytest.mark.parametrize(
    ("control", "arm"),
    [
        (0.2, 0.2),
        (0.005, 0.007),
        *(
            pytest.param(*chances, marks=pytest.mark.slow)
            for chances in ((0.02, 0.02), (0.005, 0.005), (0.0, 0.002), (0.9, 0.88))
        ),
    ],
)
def test_differences_of_proportions(control: float, arm: float, experiments: int) -> None:
    truth = arm - control
    assert alarms(chance_of(control), chance_of(arm), truth=truth, experiments=experiments) <= ALPHA


def lognormal(rng: np.random.Generator, count: int) -> Array:
    return rng.lognormal(0, 1.5, count)


def revenue(rng: np.random.Generator, count: int) -> Array:
    """Of 5% who buy."""
    return (rng.random(count) < 0.05) * rng.lognormal(3, 1, count)


@repeated
@pytest.mark.parametrize("draw", [lognormal, revenue])
def test_differences_of_means_with_heavy_tails(
    draw: Callable[[np.random.Generator, int], Array], experiments: int
) -> None:
    assert alarms(draw, draw, proportion=False, experiments=experiments) <= ALPHA


@repeated
@pytest.mark.parametrize(
    "weights", [(90, 10), pytest.param((10, 90), marks=pytest.mark.slow), pytest.param((95, 5), marks=pytest.mark.slow)]
)
def test_differences_to_an_arm_that_is_small_or_to_a_small_control(weights: tuple[int, int], experiments: int) -> None:
    assert alarms(chance_of(0.02), chance_of(0.02), weights=weights, experiments=experiments) <= ALPHA
    assert alarms(lognormal, lognormal, weights=weights, proportion=False, experiments=experiments) <= ALPHA


def by_buckets(rng: np.random.Generator, units: int, peeks: int, *, size: float, spread: float) -> list[Moments]:
    """Of one arm: units of very different size and error rate, counted by bucket, after each 50 of them."""
    sizes = np.minimum(rng.geometric(1 / size, units), 20 * size)
    chances = rng.beta(spread, 9 * spread, units)
    errors, buckets = rng.binomial(sizes.astype(int), chances), rng.integers(0, BUCKETS, units)
    above, below, found = np.zeros(BUCKETS), np.zeros(BUCKETS), []
    for part in np.split(np.arange(units), peeks):
        np.add.at(above, buckets[part], errors[part])
        np.add.at(below, buckets[part], sizes[part])
        seen = int((below > 0).sum())
        found.append(
            Moments(seen, above.sum(), below.sum(), (above**2).sum(), (below**2).sum(), (above * below).sum(), True)
        )
    return found


@repeated
def test_rates_of_units_whose_requests_are_alike(experiments: int) -> None:
    rng = np.random.default_rng(1)
    drawn = [[by_buckets(rng, 2_000, 40, size=20, spread=0.3) for _ in range(2)] for _ in range(experiments)]
    assert np.mean([_misled(control, arm) for control, arm in drawn]) <= ALPHA
    # Which is not to be had by taking requests for independent.
    apart = [[[_apart(moments) for moments in arm] for arm in both] for both in drawn[:100]]
    assert np.mean([_misled(control, arm) for control, arm in apart]) > 0.3


def _apart(moments: Moments) -> Moments:
    """The same requests, each by a unit of its own."""
    count, errors = int(moments.denominator), moments.numerator
    return Moments.of_values(count, errors, errors, proportion=True)


@repeated
def test_disagreement_at_its_very_maximum(experiments: int) -> None:
    rng = np.random.default_rng(2)
    for most in (0.005, 0.01, 0.2):
        disagreements = np.cumsum(rng.random((experiments, PEEKS[-1])) < most, axis=1)[:, PEEKS - 1]
        # The interval is above the maximum where a bet against it has made 1/alpha.
        above = (log_capital(disagreements, PEEKS, most) > log(1 / ALPHA)) & (disagreements > most * PEEKS)
        assert above.any(axis=1).mean() <= ALPHA


@repeated
def test_pairs_of_which_neither_is_right_more_often(experiments: int) -> None:
    rng = np.random.default_rng(3)
    won, lost = (np.cumsum(each, axis=1)[:, PEEKS - 1] for each in _discordant(rng, 0.04, experiments))
    assert (log_capital(won, won + lost, 0.5) > log(1 / ALPHA)).any(axis=1).mean() <= ALPHA


def _discordant(rng: np.random.Generator, part: float, experiments: int) -> tuple[Array, Array]:
    draws = rng.random((experiments, PEEKS[-1]))
    return draws < part / 2, (draws >= part / 2) & (draws < part)


@repeated
@pytest.mark.parametrize(
    ("won", "lost"),
    [
        (0.01, 0.01),
        pytest.param(0.006, 0.001, marks=pytest.mark.slow),
        pytest.param(0.0, 0.005, marks=pytest.mark.slow),
    ],
)
def test_the_change_of_right_answers(won: float, lost: float, experiments: int) -> None:
    rng = np.random.default_rng(10)
    misled = 0
    for _ in range(experiments):
        draws = rng.random(PEEKS[-1])
        gains, losses = np.cumsum(draws < won)[PEEKS - 1], np.cumsum(draws > 1 - lost)[PEEKS - 1]
        changes = (
            mcnemar(Pairs(labelled=int(count), variant_only=int(gain), control_only=int(loss)), ALPHA).change
            for count, gain, loss in zip(PEEKS, gains, losses, strict=True)
        )
        misled += any(not change.low <= won - lost <= change.high for change in changes)
    assert misled / experiments <= ALPHA


@repeated
def test_paired_times(experiments: int) -> None:
    rng = np.random.default_rng(4)
    misled = 0
    for _ in range(experiments):
        # Differences of exponentials: what two runs of one program look like that is stopped now and then.
        times = rng.exponential(1, 5_000) - rng.exponential(1, 5_000)
        found = (mean(moments, ALPHA) for moments in sums(times, proportion=False))
        misled += any(not interval.low <= 0 <= interval.high for interval in found)
    assert misled / experiments <= ALPHA


@repeated
@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantiles(q: float, experiments: int) -> None:
    """The quantile is between two ranks where the number of values up to it is."""
    rng = np.random.default_rng(5)
    below = np.cumsum(rng.random((experiments, PEEKS[-1])) < q, axis=1)[:, PEEKS - 1]
    outside = np.zeros(experiments, bool)
    for column, count in enumerate(PEEKS):
        ranks = quantile_ranks(int(count), q, ALPHA)
        if ranks is not None:
            outside |= (below[:, column] <= ranks[0]) | (below[:, column] > ranks[1])
    assert outside.mean() <= ALPHA


@pytest.mark.parametrize("experiments", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_latencies_of_clients_who_ask_for_more_or_less(experiments: int) -> None:
    """Of 40 experiments that mislead with a chance of 20%, 2 or fewer do so in 0.8% of cases."""
    rng = np.random.default_rng(6)
    misled = 0
    for _ in range(experiments):
        arms = [Latencies(), Latencies()]
        found = []
        for _ in range(15):
            for latencies in arms:
                sizes = rng.geometric(0.1, 50)
                times = np.repeat(np.exp(rng.normal(15, 0.7, 50)), sizes) * rng.lognormal(0, 0.3, sizes.sum())
                for bucket, ns in zip(
                    np.repeat(rng.integers(0, BUCKETS, 50), sizes).tolist(), times.tolist(), strict=True
                ):
                    latencies.add(bucket, ns)
            found.append(quantile_ratio(*arms, 0.95, ALPHA))
        misled += any(interval.low > 0 or interval.high < 0 for interval in found)
    assert misled / experiments <= ALPHA


@repeated
def test_whole_experiments_with_several_guardrails(experiments: int) -> None:
    """No guardrail breaks where all are at their very limits."""
    rng = np.random.default_rng(7)
    guardrails = [
        Guardrail("error_rate", margin_abs=0.01),
        Guardrail("disagreement", max=0.02),
        Guardrail("outcome:clicked", margin_abs=0.02),
    ]
    broken = 0
    for _ in range(experiments):
        drawn = [sums(chance_of(part)(rng, 5_000), proportion=True)[9::10] for part in (0.01, 0.02, 0.2, 0.18, 0.02)]
        found = False
        for control_errors, errors, control_clicks, clicks, disagreements in zip(*drawn, strict=True):
            pairs = Pairs(compared=disagreements.clusters, disagreements=int(disagreements.numerator))
            control = Evidence("original", control_errors, outcomes={"clicked": control_clicks})
            arm = Evidence("int8", errors, outcomes={"clicked": clicks}, pairs=pairs)
            results = [judge(each, control, arm, alpha=ALPHA, family=3).result for each in guardrails]
            found = found or Result.BROKEN in results
        broken += found
    assert broken / experiments <= ALPHA


def test_two_points_are_found() -> None:
    assert alarms(chance_of(0.2), chance_of(0.22), experiments=200, peeks=400) > 0.9


@repeated
def test_fair_splits_are_no_mismatch(experiments: int) -> None:
    rng = np.random.default_rng(8)
    once = at_any_time = sequential = 0
    for _ in range(experiments):
        original = np.cumsum(rng.random(PEEKS[-1]) < 0.5)[PEEKS - 1]
        found = [
            sample_ratio({"original": int(mine), "int8": int(count - mine)}, {"original": 1, "int8": 1})
            for mine, count in zip(original, PEEKS, strict=True)
        ]
        once += found[-1].mismatch
        at_any_time += any(each.mismatch for each in found)
        sequential += any(each.anytime_p_value < 0.01 for each in found)
    assert once / experiments <= 0.003
    assert at_any_time / experiments <= ALPHA
    assert sequential / experiments <= 0.01


def test_48_to_52_is_a_mismatch() -> None:
    rng = np.random.default_rng(9)
    found = [
        sample_ratio({"original": int(mine), "int8": int(20_000 - mine)}, {"original": 1, "int8": 1})
        for mine in rng.binomial(20_000, 0.52, 200)
    ]
    assert np.mean([each.mismatch for each in found]) > 0.95
    assert np.mean([each.anytime_p_value < 0.01 for each in found]) > 0.9
