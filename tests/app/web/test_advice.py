from typing import Any

import pytest

from app.web.advice import advice
from tests.app.web.rows import original, row


def test_a_faster_variant_is_recommended_with_what_it_costs() -> None:
    said = advice([original(), row()])
    assert said.variant is not None
    assert said.heading == "Recommended: int8"
    assert said.because == (
        "It is 1.95× as fast as the original (1.91× to 1.99× at 95% confidence), at 30% of the size; accuracy is 85.55%"
        " on 256 held-out samples, where the original has 85.16%."
    )


def test_rivals_as_fast_within_noise_are_named() -> None:
    rival = row(variant="mixed", version=3, agreement=0.95, speedup=1.96, speedup_low=1.9, speedup_high=2.0)
    assert "mixed is as fast within noise" in advice([original(), row(), rival]).because


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": None}, "it gives the original's answer on 99.22% of 256 held-out samples; there are no labels"),
        ({"accuracy": None, "agreement": None}, "its outputs have cosine 0.9990 to the original's"),
        ({"speedup": 1.0, "speedup_low": 0.98, "speedup_high": 1.02}, "as fast as the original within noise"),
    ],
)
def test_what_was_measured_decides_the_words(changes: dict[str, Any], words: str) -> None:
    assert words in advice([original(), row(**changes)]).because


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "rejected"}, "int8 broke the budget."),
        ({"samples": 0}, "What int8 would change in the answers was not measured"),
        ({"speedup": 0.9, "speedup_low": 0.88, "speedup_high": 0.92}, "neither faster beyond noise nor smaller"),
    ],
)
def test_without_a_reason_for_another_the_original_stays(changes: dict[str, Any], words: str) -> None:
    said = advice([original(), row(**changes)])
    assert said.variant is None
    assert said.heading == "Stay with the original"
    assert words in said.because


def test_an_original_alone_is_no_comparison() -> None:
    assert "Quantize it" in advice([original()]).because
    assert "is being made" in advice([original()], under_way=True).because
