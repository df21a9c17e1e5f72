from collections.abc import Callable
from typing import TypeAlias

import pytest

from worker.lasting import Lasting

Look: TypeAlias = Callable[[float, list[str]], list[str]]


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def looked(clock: Clock) -> Look:
    """What has lasted for 10 s, once this many seconds have gone by and these things are there."""
    lasting = Lasting[str](10.0, clock=clock)

    def look(seconds: float, found: list[str]) -> list[str]:
        clock.at += seconds
        return lasting.among(found)

    return look


def test_what_every_look_finds_has_lasted_once_the_time_is_over(
    looked: Look,
) -> None:
    assert looked(0, ["a"]) == []
    assert looked(4, ["b", "a"]) == []
    assert looked(4, ["b", "a"]) == []
    assert looked(2, ["b", "a"]) == ["a"]
    assert looked(4, ["b", "a"]) == ["b", "a"]


def test_what_was_away_once_begins_anew(looked: Look) -> None:
    looked(0, ["a"])
    for _ in range(3):
        assert looked(4, ["a"]) in ([], ["a"])
    looked(4, [])
    assert looked(4, ["a"]) == []
    assert looked(4, ["a"]) == []


def test_time_in_which_nobody_looked_counts_for_half_at_most(looked: Look) -> None:
    looked(0, ["a"])
    assert looked(3600, ["a"]) == []
    assert looked(4, ["a"]) == []
    assert looked(1, ["a"]) == ["a"]


def test_who_looks_more_seldom_than_that_comes_to_a_conclusion_too(
    looked: Look,
) -> None:
    looked(0, ["a"])
    assert looked(60, ["a"]) == []
    assert looked(60, ["a"]) == ["a"]
