from app.access.bucket import Bucket


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    at = 100.0
    bucket = Bucket(rate=4, burst=3, clock=lambda: at)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0]
    assert bucket.take() == 0.25
    at += 0.125
    assert bucket.take() == 0.125
    at += 0.125
    assert bucket.take() == 0
    assert bucket.take() == 0.25


def test_no_more_is_saved_up_than_may_come_at_once() -> None:
    at = 100.0
    bucket = Bucket(rate=10, burst=2, clock=lambda: at)
    at += 3600
    assert [bucket.take() == 0 for _ in range(3)] == [True, True, False]
