from app.serving.deadlines import RECENT_NS, Pace


def test_nothing_is_expected_of_what_never_ran() -> None:
    assert Pace().expected_ns(100, 0) == 0


def test_time_grows_with_the_size() -> None:
    pace = Pace()
    pace.ran(100, 1000, 0)
    assert pace.expected_ns(100, 1) == 1000
    assert pace.expected_ns(1000, 1) == 10_000
    assert pace.expected_ns(10, 1) == 100
    assert pace.expected_ns(0, 1) == 0


def test_the_nearest_size_tells() -> None:
    pace = Pace()
    pace.ran(10, 1000, 0)
    pace.ran(1000, 10_000, 0)
    assert pace.expected_ns(12, 1) == 1200
    assert pace.expected_ns(800, 1) == 8000


def test_one_disturbed_run_has_no_say() -> None:
    pace = Pace()
    for took in (1000, 1000, 900_000, 1000, 1000):
        pace.ran(100, took, 0)
    assert pace.expected_ns(100, 1) == 1000


def test_what_was_long_ago_is_forgotten() -> None:
    pace = Pace()
    pace.ran(100, 5000, 0)
    assert pace.expected_ns(100, RECENT_NS) == 5000
    assert pace.expected_ns(100, RECENT_NS + 1) == 0
    pace.ran(100, 10, RECENT_NS + 1)
    assert pace.expected_ns(100, RECENT_NS + 2) == 10
