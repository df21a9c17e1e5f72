"""Differences as they are drawn and said."""

from typing import Any

import pytest

from app.registry.tables import Experiment, ExperimentEvent, now
from app.web.experiments import WIDTH, Happening, Whisker, whiskers

MIDDLE, MARGIN = 120.0, 195.0


def interval(low: float | None, estimate: float | None, high: float | None) -> dict[str, float | None]:
    return {"low": low, "estimate": estimate, "high": high}


UNKNOWN = interval(None, None, None)


def drawn(guardrail: dict[str, Any], found: dict[str, float | None], result: str = "undecided") -> Whisker:
    experiment = Experiment(guardrails=[guardrail])
    judged = {"metric": guardrail["metric"], "limit": 1, "result": result, "interval": found}
    verdict = {
        "guardrails": [judged],
        "speedup": UNKNOWN,
        "speedup_is_paired": False,
        "error_rate": UNKNOWN,
        "outcomes": {},
    }
    (row,) = whiskers(experiment, {"arms": [{"variant": "int8", "verdict": verdict}]})
    return row


def test_no_difference_is_in_the_middle_and_the_limit_at_the_margin() -> None:
    row = drawn({"metric": "error_rate", "margin_abs": 0.002}, interval(0.0, 0.001, 0.002))
    assert (row.low, row.high, row.margin) == (MIDDLE, MARGIN, MARGIN)
    assert row.at == pytest.approx((MIDDLE + MARGIN) / 2)
    assert row.goes_on == (False, False)
    assert row.said == "+0.1 pts (0 pts to +0.2 pts)"
    assert row.limit == "+0.2 pts"


def test_less_of_an_outcome_is_to_the_right() -> None:
    row = drawn({"metric": "outcome:clicked", "margin_abs": 0.01}, interval(-0.01, -0.005, 0.005))
    assert row.low < MIDDLE < (row.at or 0) < row.high == MARGIN
    assert row.limit == "−0.01"


def test_less_is_better_where_that_is_said() -> None:
    row = drawn({"metric": "outcome:cost", "margin_abs": 1, "lower_is_better": True}, interval(-1, -0.5, 0.5))
    assert row.low < (row.at or 0) < MIDDLE < row.high


def test_what_is_beyond_the_line_goes_on_at_its_edge() -> None:
    row = drawn({"metric": "latency_p95", "margin_rel": 0.1}, interval(-5.0, 0.02, 7.0))
    assert (row.low, row.high) == (8.0, WIDTH - 8)
    assert row.goes_on == (True, True)


def test_where_nothing_is_known_no_dot_is_drawn() -> None:
    row = drawn({"metric": "latency_p95", "margin_rel": 0.1}, interval(None, 0.1, None))
    assert row.at is None
    assert row.said == "nothing known yet"


def test_a_disagreement_is_a_rate() -> None:
    row = drawn({"metric": "disagreement", "max": 0.02}, interval(0.0, 0.01, 0.05), "broken")
    assert (row.said, row.limit, row.result, row.tone) == ("1% (0% to 5%)", "2%", "broken", "bad")


def test_a_speedup_without_a_guardrail_is_drawn_as_time() -> None:
    verdict = {
        "guardrails": [],
        "speedup": interval(1.5, 2.0, 2.5),
        "speedup_is_paired": True,
        "error_rate": UNKNOWN,
        "outcomes": {"clicked": interval(0.1, 0.2, 0.3)},
    }
    results = {"arms": [{"variant": "original", "verdict": None}, {"variant": "int8", "verdict": verdict}]}
    time, clicked = whiskers(Experiment(guardrails=[]), results)
    assert time.title == "time at p50, in pairs"
    assert time.said == "2.00× as fast (1.50× to 2.50×)"
    assert (time.result, clicked.result) == ("better", "better")
    assert time.high < MIDDLE
    assert clicked.high < MIDDLE
    assert time.margin is None


@pytest.mark.parametrize(
    ("kind", "detail", "what"),
    [
        ("created", {"by": "request"}, "Set up"),
        (
            "ramped",
            {"by": "ramp", "coverage": {"from": 0.1, "to": 0.5}},
            "Ramped up: coverage from 10% to 50% by the ramp",
        ),
        ("changed", {"weights": {"from": {"a": 50}, "to": {"a": 20}}}, "Changed: weight of a from 50 to 20"),
        ("rolled_back", {"by": "guardrail", "variants": ["int8"]}, "int8 rolled back by a guardrail"),
        ("promoted", {"variant": "int8"}, "int8 promoted to be the default"),
        ("paused", {}, "Paused"),
    ],
)
def test_what_happened_is_said_in_words(kind: str, detail: dict[str, Any], what: str) -> None:
    event = ExperimentEvent(id=1, kind=kind, detail=detail | {"reason": "so"}, at=now())
    assert (Happening.of(event).what, Happening.of(event).why) == (what, "so")
