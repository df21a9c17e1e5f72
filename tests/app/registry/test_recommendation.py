from typing import Any

from app.registry.recommendation import recommendation
from tests.app.web.rows import original, row


def faster(label: str, speedup: float, **changes: Any) -> Any:
    facts = {"speedup": speedup, "speedup_low": speedup - 0.05, "speedup_high": speedup + 0.05}
    return row(variant=label, **(facts | changes))


def chosen(*rows: Any) -> str | None:
    found = recommendation([original(), *rows])
    return found.row.variant if found else None


def test_the_fastest_is_taken() -> None:
    assert chosen(faster("a", 1.5), faster("b", 2.0)) == "b"


def test_of_those_as_fast_within_noise_the_likest_then_the_smallest_is_taken() -> None:
    assert chosen(faster("a", 2.0, agreement=0.99), faster("b", 2.08, agreement=0.95)) == "a"
    assert chosen(faster("a", 2.0, size_ratio=0.25), faster("b", 2.08, size_ratio=0.5)) == "a"
    found = recommendation([faster("a", 2.0, agreement=0.99), faster("b", 2.08, agreement=0.95)])
    assert found is not None
    assert [rival.variant for rival in found.rivals] == ["b"]


def test_what_broke_its_budget_or_was_not_compared_is_not_taken() -> None:
    assert chosen(faster("a", 3.0, verdict="rejected"), faster("b", 2.5, samples=0), faster("c", 1.5)) == "c"


def test_what_is_only_faster_within_noise_is_taken_for_its_size() -> None:
    found = recommendation([original(), faster("a", 1.01, size_ratio=0.5), faster("b", 1.0, size_ratio=0.25)])
    assert found is not None
    assert (found.row.variant, found.faster) == ("b", False)


def test_what_is_slower_is_not_taken_however_small() -> None:
    assert chosen(faster("a", 0.7, size_ratio=0.1)) is None
    assert chosen() is None
