from typing import Any

import pytest

from app.errors import Invalid
from app.experiments.guardrails import Guardrail


@pytest.mark.parametrize(
    ("guardrail", "limit", "title", "worse"),
    [
        (Guardrail("error_rate", margin_abs=0.002), 0.002, "errors", 1),
        (Guardrail("latency_p95", margin_rel=0.1), 0.1, "p95", 1),
        (Guardrail("latency_p5", margin_rel=0.1), 0.1, "p5", 1),
        (Guardrail("disagreement", max=0.01), 0.01, "disagreement", 1),
        (Guardrail("outcome:clicked", margin_abs=0.005), 0.005, "clicked", -1),
        (Guardrail("outcome:latency_p95", margin_abs=2, lower_is_better=True), 2, "latency_p95", 1),
    ],
)
def test_what_can_be_guarded(guardrail: Guardrail, limit: float, title: str, worse: int) -> None:
    assert (guardrail.limit, guardrail.title, guardrail.worse) == (limit, title, worse)


def test_quantiles_are_read_from_the_name() -> None:
    assert Guardrail("latency_p95", margin_rel=0.1).quantile == 0.95
    assert Guardrail("error_rate", margin_abs=0.1).quantile is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"metric": "accuracy", "max": 1}, "there is no metric 'accuracy'"),
        ({"metric": "latency_p100", "margin_rel": 1}, "there is no metric"),
        ({"metric": "latency_p0", "margin_rel": 1}, "there is no metric"),
        ({"metric": "outcome:", "margin_abs": 1}, "there is no metric"),
        ({"metric": "error_rate"}, "takes 'margin_abs' as its limit, not none"),
        ({"metric": "latency_p95", "margin_abs": 1}, "takes 'margin_rel' as its limit, not 'margin_abs'"),
        ({"metric": "disagreement", "max": 0.1, "margin_abs": 1}, "not 'margin_abs' and 'max'"),
        ({"metric": "disagreement", "max": 0.0}, "must be more than 0"),
        ({"metric": "error_rate", "margin_abs": float("nan")}, "must be more than 0"),
        ({"metric": "error_rate", "margin_abs": 1, "lower_is_better": True}, "is for outcomes"),
    ],
)
def test_what_cannot_be_guarded_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        Guardrail(**wrong)
