from collections.abc import Callable

from app.serving.cost_model import RECENT_NS, CostModel


def test_nothing_is_expected_of_what_never_ran() -> None:
    assert CostModel().expected_ns(100, 0) == 0


def test_time_grows_with_the_size() -> None:
    costs = CostModel()
    costs.ran(100, 1000, 0)
    assert costs.expected_ns(100, 1) == 1000
    assert costs.expected_ns(1000, 1) == 10_000
    assert costs.expected_ns(10, 1) == 100
    assert costs.expected_ns(0, 1) == 0


def test_the_nearest_size_tells() -> None:
    costs = CostModel()
    costs.ran(10, 1000, 0)
    costs.ran(1000, 10_000, 0)
    assert costs.expected_ns(12, 1) == 1200
    assert costs.expected_ns(800, 1) == 8000


def test_one_disturbed_run_has_no_say() -> None:
    costs = CostModel()
    for took in (1000, 1000, 900_000, 1000, 1000):
        costs.ran(100, took, 0)
    assert costs.expected_ns(100, 1) == 1000


def test_what_was_long_ago_is_forgotten() -> None:
    costs = CostModel()
    costs.ran(100, 5000, 0)
    assert costs.expected_ns(100, RECENT_NS) == 5000
    assert costs.expected_ns(100, RECENT_NS + 1) == 0
    costs.ran(100, 10, RECENT_NS + 1)
    assert costs.expected_ns(100, RECENT_NS + 2) == 10


def settled(row_ns: Callable[[int], int], *, rows: int = 32) -> list[int]:
    """The batches of a line that never ends, of a variant whose row takes so long in a batch of so many."""
    costs, batches = CostModel(), []
    for _ in range(20):
        batches.append(costs.paying_rows(rows, 100, 0))
        costs.ran(batches[-1] * 100, row_ns(batches[-1]) * batches[-1], 0)
    return batches


def test_rows_that_batches_make_cheaper_are_computed_in_large_ones() -> None:
    assert settled(lambda rows: 1_000_000 // rows)[-1] == 32


def test_rows_that_batches_make_no_cheaper_are_computed_in_small_ones() -> None:
    assert settled(lambda rows: 1_000_000)[:7] == [32, 16, 8, 4, 2, 1, 1]


def test_batches_grow_as_far_as_it_pays() -> None:
    assert settled(lambda rows: 10_000_000 // min(rows, 4))[-1] == 4


def test_what_a_turn_costs_counts_too() -> None:
    assert settled(lambda rows: 1000)[-1] >= 16


def test_batches_that_did_not_pay_are_tried_again_after_a_while() -> None:
    costs = CostModel()
    for rows in (8, 4, 2, 1):
        costs.ran(rows * 100, rows * 1_000_000, 0)
    assert costs.paying_rows(8, 100, 1) == 1
    assert costs.paying_rows(8, 100, RECENT_NS + 1) == 8
