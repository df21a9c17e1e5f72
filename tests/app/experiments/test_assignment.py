import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2_contingency, chisquare

from app.errors import Invalid
from app.experiments.assignment import BUCKETS, Arm, Sample, Split

HALVES = (Arm("original", 50, control=True), Arm("int8", 50))
# From the first version on: other values mean that units of running experiments change their arm.
GOLDEN = {
    "u1": ("original", 166, 2373833604602285112),
    "u11": ("int8", 93, 1574427926776471014),
    "u24": ("int8", 88, 8553124627007340414),
    "u4": (None, 250, 775300280917453412),
    "ünit": (None, 233, 7604656236881923387),
    "": (None, 72, 503376112646762518),
}
# Enough to see an arm that gets 2% more than its share.
UNITS = [f"user-{number}" for number in range(25_000)]


def split_of(arms: tuple[Arm, ...] = HALVES, *, seed: str = "a seed", coverage: float = 1.0) -> Split:
    return Split(seed, arms, coverage)


def test_where_units_go_never_changes() -> None:
    split = split_of(coverage=0.4)
    assert {unit: split.place(unit) for unit in GOLDEN} == GOLDEN


def test_the_same_unit_goes_to_the_same_arm_in_another_split_of_the_same_seed() -> None:
    assert [split_of().arm(unit) for unit in UNITS[:1000]] == [split_of().arm(unit) for unit in UNITS[:1000]]


@pytest.mark.parametrize("weights", [(50, 50), (90, 10), (1, 1, 1), (0.2, 0.3, 0.5)])
def test_arms_get_what_their_weights_say(weights: tuple[float, ...]) -> None:
    arms = tuple(Arm(f"arm-{index}", weight, control=index == 0) for index, weight in enumerate(weights))
    split = split_of(arms)
    counts = Counter(split.arm(unit) for unit in UNITS)
    expected = [weight / sum(weights) * len(UNITS) for weight in weights]
    assert chisquare([counts[arm.variant] for arm in arms], expected).pvalue > 0.001


def test_a_split_is_within_binomial_bounds() -> None:
    split = split_of(coverage=0.1)
    covered = Counter(split.arm(unit) for unit in UNITS)
    assert binomtest(covered["original"], len(UNITS), 0.05).pvalue > 0.001
    assert binomtest(covered["int8"], len(UNITS), 0.05).pvalue > 0.001


def test_points_buckets_and_keys_are_uniform() -> None:
    split = split_of(tuple(Arm(f"arm-{index}", 1, control=index == 0) for index in range(100)))
    places = [split.place(unit) for unit in UNITS]
    assert chisquare(list(Counter(place.variant for place in places).values())).pvalue > 0.001
    buckets = Counter(place.bucket for place in places)
    assert set(buckets) == set(range(BUCKETS))
    assert chisquare(list(buckets.values())).pvalue > 0.001
    assert chisquare(list(Counter(place.key >> 56 for place in places).values())).pvalue > 0.001


def test_buckets_have_no_say_in_the_arm() -> None:
    table = Counter((place.variant, place.bucket % 16) for place in map(split_of().place, UNITS))
    rows = [[table[arm.variant, bucket] for bucket in range(16)] for arm in HALVES]
    assert chi2_contingency(rows).pvalue > 0.001


def test_experiments_with_other_seeds_are_independent() -> None:
    one, two = split_of(seed="one"), split_of(seed="two")
    table = Counter((one.arm(unit), two.arm(unit)) for unit in UNITS)
    rows = [[table[mine.variant, its.variant] for its in HALVES] for mine in HALVES]
    assert chi2_contingency(rows).pvalue > 0.001


@pytest.mark.parametrize("weights", [(50, 50), (10, 80, 10), (1, 0, 2)])
def test_a_ramp_moves_no_unit_that_is_in(weights: tuple[float, ...]) -> None:
    arms = tuple(Arm(f"arm-{index}", weight, control=index == 0) for index, weight in enumerate(weights))
    before: dict[str, str] = {}
    for coverage in (0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1):
        split = split_of(arms, coverage=coverage)
        now = {unit: arm for unit in UNITS[:20_000] if (arm := split.arm(unit)) is not None}
        assert before.items() <= now.items()
        assert abs(len(now) / 20_000 - coverage) < 0.015
        before = now
    assert len(before) == 20_000


def test_coverage_takes_the_beginning_of_each_arms_range() -> None:
    assert split_of(coverage=0.4).shares == {"original": 0.2, "int8": pytest.approx(0.2)}
    full, part = split_of(), split_of(coverage=0.4)
    assert {full.arm(unit) for unit in UNITS if part.arm(unit) == "int8"} == {"int8"}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_arm_of_weight_zero_gets_nothing(place: int) -> None:
    arms = [Arm("original", 30, control=True), Arm("int8", 70)]
    arms.insert(place, Arm("fp16", 0))
    assert "fp16" not in {split_of(tuple(arms)).arm(unit) for unit in UNITS}


def test_a_stopped_arm_leaves_everybody_else_where_they_are() -> None:
    arms = (Arm("original", 34, control=True), Arm("int8", 33), Arm("fp16", 33))
    stopped = (arms[0], Arm("int8", 33, stopped=True), arms[2])
    for unit in UNITS[:10_000]:
        before, after = split_of(arms).arm(unit), split_of(stopped).arm(unit)
        assert after == (None if before == "int8" else before)


@given(
    weights=st.lists(st.floats(0, 1e6), min_size=2, max_size=6).filter(lambda weights: sum(weights) > 0),
    coverage=st.floats(0, 1),
    unit=st.text(),
)
def test_every_unit_is_in_one_arm_of_some_weight_or_uncovered(weights: list[float], coverage: float, unit: str) -> None:
    arms = tuple(Arm(f"arm-{index}", weight, control=index == 0) for index, weight in enumerate(weights))
    split = split_of(arms, coverage=coverage)
    arm = split.arm(unit)
    assert arm is None or next(each for each in arms if each.variant == arm).weight > 0
    assert sum(split.shares.values()) == pytest.approx(coverage, abs=1e-9)
    if coverage == 1:
        assert arm is not None


@pytest.mark.parametrize(
    ("arms", "coverage", "says"),
    [
        (HALVES[:1], 1, "two arms or more"),
        ((HALVES[0], HALVES[0]), 1, "variant of its own"),
        ((Arm("original", 1), Arm("int8", 1)), 1, "one arm is the control"),
        ((Arm("original", 1, control=True), Arm("int8", 1, control=True)), 1, "2 say so"),
        ((Arm("original", 1, control=True), Arm("int8", -1)), 1, "'int8' is -1"),
        ((Arm("original", 1, control=True), Arm("int8", float("nan"))), 1, "'int8' is nan"),
        ((Arm("original", 1, control=True), Arm("int8", float("inf"))), 1, "'int8' is inf"),
        ((Arm("original", 0, control=True), Arm("int8", 0)), 1, "weight 0"),
        (HALVES, 1.1, "coverage is 1.1"),
        (HALVES, float("nan"), "coverage is nan"),
    ],
)
def test_what_is_no_split_is_refused(arms: tuple[Arm, ...], coverage: float, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        split_of(arms, coverage=coverage)


def test_a_shadow_takes_its_part_whatever_the_arm() -> None:
    sample, split = Sample("a seed", "mixed", 0.05), split_of()
    taken = [unit for unit in UNITS if sample.takes(unit)]
    assert binomtest(len(taken), len(UNITS), 0.05).pvalue > 0.001
    arms = Counter(split.arm(unit) for unit in taken)
    assert binomtest(arms["int8"], len(taken), 0.5).pvalue > 0.001


def test_shadows_of_other_variants_take_other_requests() -> None:
    one, two = Sample("a seed", "mixed", 0.1), Sample("a seed", "int8", 0.1)
    both = sum(one.takes(unit) and two.takes(unit) for unit in UNITS)
    assert binomtest(both, len(UNITS), 0.01).pvalue > 0.001


def test_a_larger_sample_leaves_none_out() -> None:
    small, large = Sample("a seed", "mixed", 0.05), Sample("a seed", "mixed", 0.2)
    assert all(large.takes(unit) for unit in UNITS if small.takes(unit))


def test_a_sample_of_none_or_all() -> None:
    ids = [random.Random(1).randbytes(8).hex() for _ in range(1000)]
    assert not any(Sample("", "v", 0).takes(each) for each in ids)
    assert all(Sample("", "v", 1).takes(each) for each in ids)
    with pytest.raises(Invalid, match="0 to 1"):
        Sample("", "v", 1.5)
