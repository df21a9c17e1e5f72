import pytest

from app.cli.marks import Incomprehensible, Marks, marks
from app.cli.tables import comparison, footnote
from tests.app.cli.answers import INT8, ORIGINAL
from tests.app.cli.test_tables import line_of, lines

MEASURED = ORIGINAL | {"accuracy": 0.8516, "latency_ms": {"p50": 0.39, "p95": 0.5, "p99": 0.6}, "samples": 256}
SLOW = INT8 | {"variant": "slow", "version": 3, "latency_ms": {"p50": 0.9, "p95": 1.0, "p99": 1.1}}
SLOW |= {"speedup": 0.4, "speedup_low": 0.39, "speedup_high": 0.41, "accuracy": 0.84}


def test_the_variant_that_the_dashboard_recommends_is_marked_and_so_is_what_none_beats() -> None:
    found = marks([MEASURED, INT8, SLOW])
    assert found.recommended == {INT8["version"]}
    assert found.unbeaten == {INT8["version"]}
    assert found.advice.startswith("Recommended: int8. It is 1.95× as fast as the original")


def test_a_rejected_variant_is_never_marked() -> None:
    rejected = INT8 | {"verdict": "rejected", "reasons": ["accuracy fell by 3%"]}
    found = marks([MEASURED, rejected])
    assert rejected["version"] not in found.recommended | found.unbeaten


def test_marks_are_of_the_newest_revision() -> None:
    newer = [MEASURED | {"revision": 2, "version": 7}, INT8 | {"revision": 2, "version": 8}]
    assert marks([MEASURED, INT8, *newer]).recommended == {8}


def test_without_measurements_nothing_is_marked_and_the_advice_says_what_to_do() -> None:
    found = marks([ORIGINAL])
    assert (found.recommended, found.unbeaten) == (frozenset(), frozenset())
    assert "Quantize it" in found.advice


def test_a_server_of_another_version_is_an_error_that_says_so() -> None:
    with pytest.raises(Incomprehensible, match="size_bytes"):
        marks([{name: value for name, value in ORIGINAL.items() if name != "size_bytes"}])


def test_signs_stand_behind_the_name_and_are_explained_where_they_are_used() -> None:
    marked = Marks(frozenset({2}), frozenset({1, 2}))
    shown = lines(comparison("resnet", [ORIGINAL, INT8], 160, marked), 160)
    assert line_of("original", shown).split()[1] == "*◆"
    assert line_of("int8", shown).split()[1] == "★◆"
    assert "★" in footnote([INT8], marked)
    assert "★" not in footnote([INT8])
