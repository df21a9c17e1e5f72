import pytest

from app.errors import Quarantined
from app.serving.crashes import Crashes
from app.serving.loading import Artifact

BAD, GOOD = Artifact("onnxruntime", "a" * 64), Artifact("onnxruntime", "b" * 64)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def crashes(clock: Clock) -> Crashes:
    return Crashes(clock)


def seconds(crashes: Crashes, artifact: Artifact = BAD) -> int | None:
    refusal = crashes.refusal(artifact)
    return None if refusal is None else refusal.retry_after_s


def test_two_crashes_are_an_accident_and_three_are_not(crashes: Crashes) -> None:
    for expected in (None, None, 10):
        crashes.note(BAD)
        assert seconds(crashes) == expected
    assert seconds(crashes, GOOD) is None
    assert crashes.counts() == {BAD: 3}


def test_crashes_far_apart_do_not_add_up(crashes: Crashes, clock: Clock) -> None:
    for _ in range(10):
        crashes.note(BAD)
        clock.now_s += 31
        assert seconds(crashes) is None


def test_each_crash_after_a_quarantine_makes_the_next_twice_as_long_up_to_ten_minutes(
    crashes: Crashes, clock: Clock
) -> None:
    crashes.note(BAD)
    crashes.note(BAD)
    for expected in (10, 20, 40, 80, 160, 320, 600, 600):
        crashes.note(BAD)
        assert seconds(crashes) == expected
        clock.now_s += expected
        assert seconds(crashes) is None


def test_who_ran_in_peace_starts_afresh(crashes: Crashes, clock: Clock) -> None:
    for _ in range(3):
        crashes.note(BAD)
    clock.now_s += 10 + 61
    crashes.note(BAD)
    assert seconds(crashes) is None


def test_a_refusal_says_how_often_and_for_how_long(crashes: Crashes) -> None:
    for _ in range(3):
        crashes.note(BAD)
    refusal = crashes.refusal(BAD)
    assert isinstance(refusal, Quarantined)
    assert "model 'm' has crashed 3 times" in refusal.of("m").detail
    assert "10 s" in refusal.of("m").detail
