"""How busy variants were, told from looks at counts."""

from app.web.traffic import Traffic

ONE, TWO = ("a", 1), ("b", 1)


def test_there_is_no_rate_before_a_second_look() -> None:
    traffic = Traffic()
    assert traffic.rates() == {}
    traffic.look({ONE: 5}, 100.0)
    assert traffic.rates() == {}


def test_a_rate_is_of_the_last_ten_seconds() -> None:
    traffic = Traffic()
    for at_s, count in ((100.0, 0), (105.0, 1000), (110.0, 1010), (115.0, 1020)):
        traffic.look({ONE: count}, at_s)
    assert traffic.rates() == {ONE: 2.0}


def test_looks_at_about_the_same_time_are_one() -> None:
    traffic = Traffic()
    traffic.look({ONE: 0}, 100.0)
    traffic.look({ONE: 50}, 100.2)
    assert traffic.rates() == {}


def test_counts_that_fall_as_a_process_ends_are_no_negative_rate() -> None:
    traffic = Traffic()
    traffic.look({ONE: 90}, 100.0)
    traffic.look({ONE: 10, TWO: 20}, 110.0)
    assert traffic.rates() == {ONE: 0.0, TWO: 2.0}


def test_the_chart_has_the_busiest_and_the_sum_of_the_others() -> None:
    traffic = Traffic()
    keys = {(name, 1): number for number, name in enumerate("abcde")}
    for turn in range(4):
        traffic.look({key: turn * 10 * number for key, number in keys.items()}, 100.0 + 10 * turn)
    chart = traffic.chart({key: key[0] for key in keys})
    assert chart is not None
    assert chart.at == [-20.0, -10.0, 0.0]
    assert [(each.label, each.values[-1]) for each in chart.series] == [
        ("e", 4.0),
        ("d", 3.0),
        ("c", 2.0),
        ("others", 1.0),
    ]


def test_nothing_is_drawn_where_nothing_happens() -> None:
    traffic = Traffic()
    for turn in range(4):
        traffic.look({ONE: 7}, 100.0 + 10 * turn)
    assert traffic.chart({ONE: "a"}) is None


def test_only_three_minutes_are_kept() -> None:
    traffic = Traffic()
    for turn in range(100):
        traffic.look({ONE: turn * turn}, 100.0 + 5 * turn)
    chart = traffic.chart({ONE: "a"})
    assert chart is not None
    assert chart.at[0] >= -180.0
