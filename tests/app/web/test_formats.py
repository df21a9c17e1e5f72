from datetime import UTC, datetime, timedelta

import pytest

from app.web import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (332_000, "332 kB")),
        *((1_095_404, "1.10 MB"), (2_500_000_000, "2.50 GB"), (None, "–")),
    ],
)
def test_sizes_have_three_digits_and_a_unit(value: int | None, text: str) -> None:
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1994, "0.199 ms"), (2.345, "2.35 ms"), (31.06, "31.1 ms"), (1234.5, "1,234 ms"), (None, "–")]
)
def test_latencies_have_the_digits_that_count(value: float | None, text: str) -> None:
    assert formats.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.98444, "share", "98.44%"), (-0.01, "share", "-1.00%"), (12.3456, "dB", "12.35 dB"), (0.99871, "", "0.9987"),
     (None, "dB", "–")],
)  # fmt: skip
def test_a_metric_is_shown_with_its_unit(value: float | None, unit: str, text: str) -> None:
    assert formats.figure(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.04, "2.0 s"), (59.4, "59 s"), (75, "1 min 15 s"), (7300, "2 h 1 min"), (None, "–")]
)
def test_durations_are_said_in_two_units_at_most(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("past", "text"), [(5, "just now"), (200, "3 min ago"), (7300, "2 h ago"), (200_000, "2 d ago")]
)
def test_what_is_past_is_said_by_its_largest_unit(past: int, text: str) -> None:
    assert formats.ago(datetime.now(UTC) - timedelta(seconds=past)) == text


def test_axes_that_may_have_any_length_are_question_marks() -> None:
    assert formats.shape([-1, 3, 32]) == "? × 3 × 32"
    assert formats.shape([]) == "scalar"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "none"), ([], "none"), (True, "yes"), (0.01, "0.01"), (["a", "b"], "a, b"), ("x", "x")]
)
def test_options_read_as_words(value: object, text: str) -> None:
    assert formats.leaf(value) == text
