import json

from app.web.charts import Axis, Bars, Interval, Intervals, Lines, Point, Scatter, Series, as_json
from app.web.rendering import environment
from tests.app.web.markup import Page
from tests.app.web.rows import EVIL

SPEED = Axis(label="speedup", format="times")


def test_a_scatter_says_in_a_table_what_it_shows() -> None:
    chart = Scatter(
        x=Axis(label="latency", format="milliseconds"),
        y=Axis(label="accuracy", format="percent"),
        points=[Point(label="a", x=0.5, y=0.9, note="1 MB"), Point(label="b", x=1.0, y=0.8)],
        frontier=[(0.5, 0.9)],
    )
    assert chart.table().columns == ["", "latency", "accuracy", "", "frontier"]
    assert chart.table().rows == [["a", "0.5 ms", "90.00%", "1 MB", "yes"], ["b", "1 ms", "80.00%", "", "no"]]


def test_lines_and_bars_have_a_row_for_each_place_and_a_column_for_each_series() -> None:
    series = [
        Series(label="one", values=[1.0, None], low=[0.5, None], high=[1.5, None]),
        Series(label="two", values=[2.0, 3.0]),
    ]
    lines = Lines(x=Axis(label="time", format="time"), y=SPEED, at=[0, 10], series=series).table()
    assert lines.columns == ["time", "one", "two"]
    assert lines.rows == [["0 s", "1.00× (0.50× to 1.50×)", "2.00×"], ["10 s", "– (– to –)", "3.00×"]]
    bars = Bars(x=Axis(label="layer"), y=SPEED, labels=["conv", "fc"], series=series).table()
    assert [row[0] for row in bars.rows] == ["conv", "fc"]


def test_bounds_that_are_not_known_are_dashes() -> None:
    chart = Intervals(x=SPEED, rows=[Interval(label="int8", low=1.5, estimate=2.0, high=None)])
    assert chart.table().rows == [["int8", "1.50×", "2.00×", "–"]]


def test_no_label_can_end_the_element_that_holds_the_data() -> None:
    chart = Scatter(x=SPEED, y=SPEED, points=[Point(label="</script><script>", x=1, y=1)])
    written = as_json(chart)
    assert "<" not in written
    assert json.loads(written)["points"][0]["label"] == "</script><script>"


def test_a_figure_holds_data_and_table_and_no_markup_of_a_label() -> None:
    chart = Intervals(x=SPEED, rows=[Interval(label=EVIL, low=1, estimate=2, high=3)])
    macros = environment.get_template("macros/charts.html").module
    page = Page(str(macros.figure(chart, EVIL, "speed")))  # type: ignore[attr-defined]
    assert page.tags.count("script") == 1
    assert ("type", "application/json") in page.attributes
    assert "b" not in page.tags
    assert page.tables[0].rows[1][0] == EVIL
