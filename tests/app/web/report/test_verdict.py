"""The variant in one sentence."""

from typing import Any

import pytest

from app.web.report import verdict
from tests.app.web.report.reports import ROW


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "2.00x as fast (1.90 to 2.10"),
        ({}, "the same answer as the original on 97.00% of 200 samples"),
        ({"speedup": 0.5, "speedup_low": 0.4, "speedup_high": 0.6}, "slower than the original"),
        ({"speedup_low": 0.9, "speedup_high": 1.1}, "within noise"),
        ({"agreement": None}, "cosine to the original 0.9990"),
        ({"samples": 0}, "no dataset was named"),
        ({"method": "original"}, "as it was uploaded"),
    ],
)
def test_the_verdict_says_it_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in verdict(ROW | changes)


@pytest.mark.parametrize(
    ("overridden", "words"),
    [(False, "Rejected and does not serve: too slow. It has"), (True, "serves all the same, by an explicit override")],
)
def test_a_rejected_variant_says_so_first(overridden: bool, words: str) -> None:
    row = ROW | {"verdict": "rejected", "reasons": ["too slow"], "overridden": overridden}
    assert verdict(row).startswith("Rejected")
    assert words in verdict(row)


def test_a_whole_verdict_is_a_sentence() -> None:
    assert verdict(ROW) == (
        "25% of the original's size, 2.00x as fast (1.90 to 2.10, 95% confidence);"
        " accuracy 91.00%, 99.00% of the original's, the same answer as the original on 97.00% of 200 samples."
    )
    unlabelled = ROW | {"accuracy": None, "accuracy_ratio": None, "speedup": None}
    assert verdict(unlabelled) == (
        "25% of the original's size; the same answer as the original on 97.00% of 200 samples."
    )
