import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.experiments.assignment import Place
from app.experiments.counts import Counts

ARMS = ("original", "int8")

one_request = st.tuples(
    st.sampled_from(ARMS), st.integers(0, 255), st.integers(0, 2**63 - 1), st.none() | st.integers(0, 10**12)
)
some = st.lists(one_request, max_size=30)


def counts_of(requests: list[tuple[str, int, int, int | None]]) -> Counts:
    counts = Counts(ARMS)
    for variant, bucket, key, latency_ns in requests:
        place = Place(variant, bucket, key)
        if latency_ns is None:
            counts.failed(place)
        else:
            counts.answered(place, latency_ns)
            counts.paired("mixed", control_ns=latency_ns, variant_ns=5, agree=True, cosine=None, max_abs_difference=0.0)
    return counts


@given(some)
def test_counts_come_back_from_json(requests: list[tuple[str, int, int, int | None]]) -> None:
    counts = counts_of(requests)
    again = Counts.from_json(json.loads(json.dumps(counts.to_json())))
    assert again.to_json() == counts.to_json()
    again.answered(Place("int8", 1, 1), 5)
    assert again.requests("int8") == counts.requests("int8") + 1


@given(some, some)
def test_merging_is_counting_all_together(
    first: list[tuple[str, int, int, int | None]], second: list[tuple[str, int, int, int | None]]
) -> None:
    merged, together = counts_of(first), counts_of(first + second)
    merged.merge(counts_of(second))
    for variant in ARMS:
        assert merged.requests(variant) == together.requests(variant)
        assert merged.failures(variant) == together.failures(variant)
        assert merged.unit_count(variant) == together.unit_count(variant)
    assert merged.latencies == together.latencies
    assert merged.errors == together.errors


def test_each_arm_has_what_its_units_did() -> None:
    counts = Counts(ARMS)
    counts.answered(Place("original", 3, 30), 1_000_000)
    counts.answered(Place("int8", 4, 40), 500_000)
    counts.failed(Place("int8", 4, 40))
    counts.failed(Place("int8", 5, 50))
    assert [counts.requests(variant) for variant in ARMS] == [1, 3]
    assert [counts.failures(variant) for variant in ARMS] == [0, 2]
    assert counts.remembered_units() == {"original": 1, "int8": 2}
    counts.reported("int8", "clicked", 4, 1.0, 1, (1.0, 1.0))
    control, arm = counts.evidence()
    assert (control.variant, arm.variant) == ARMS
    assert arm.errors.rate == pytest.approx(2 / 3)
    assert (arm.latency.total.count, control.latency.total.count) == (1, 1)
    assert arm.outcomes["clicked"].rate == 1
    assert control.outcomes == {}


def test_a_shadow_that_is_no_arm_has_pairs_alone() -> None:
    counts = counts_of([("original", 1, 1, 10)])
    *arms, shadow = counts.evidence()
    assert [each.variant for each in arms] == list(ARMS)
    assert (shadow.variant, shadow.pairs.count, shadow.errors.clusters) == ("mixed", 1, 0)


def test_what_is_no_arm_is_not_counted() -> None:
    counts = Counts(ARMS)
    for variant in ("fp16", None):
        with pytest.raises(KeyError):
            counts.answered(Place(variant, 1, 1), 1)
        with pytest.raises(KeyError):
            counts.failed(Place(variant, 1, 1))
    assert counts.to_json() == Counts(ARMS).to_json()


def test_counts_of_other_arms_are_not_added() -> None:
    with pytest.raises(ValueError, match="other"):
        Counts(ARMS).merge(Counts(("original", "other")))
