import io

import pytest
from rich.console import Console, RenderableType

from app.cli import tables
from tests.app.cli.answers import INT8, JOB, ORIGINAL


def lines(renderable: RenderableType, width: int) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=width).print(renderable)
    return written.getvalue().splitlines()


def line_of(word: str, shown: list[str]) -> str:
    (line,) = [line for line in shown if line.split()[:1] == [word]]
    return line


def words_of(shown: list[str]) -> str:
    """All text, as if no line were wrapped."""
    return " ".join(" ".join(shown).split())


def test_a_wide_terminal_is_shown_every_figure() -> None:
    shown = lines(tables.comparison("resnet", [ORIGINAL, INT8], 160), 160)
    cells = line_of("int8", shown).split()
    assert cells == [
        *("int8", "2", "0.30", "MB", "30%", "85.55%", "99.22%", "0.199", "0.360", "1.95x"),
        *("1.91–1.99", "0.9987", "27.4", "accepted"),
    ]


def test_a_narrow_terminal_cuts_no_figure_short() -> None:
    shown = lines(tables.comparison("resnet", [ORIGINAL, INT8], 80), 80)
    assert line_of("int8", shown).split() == [
        "int8",
        "0.30",
        "MB",
        "30%",
        "85.55%",
        "99.22%",
        "0.199",
        "0.360",
        "1.95x",
    ]
    assert not any("…" in line for line in shown)


def test_a_metric_without_a_column_of_its_own_gets_one_after_the_others() -> None:
    psnr = {
        "name": "psnr_db", "unit": "dB", "higher_is_better": True, "original": None, "variant": 41.25, "change": None,
        "low": None, "high": None,
    }  # fmt: skip
    shown = lines(tables.comparison("resnet", [ORIGINAL, INT8 | {"metrics": [psnr]}], 180), 180)
    assert line_of("int8", shown).split()[-4:] == ["27.4", "41.25", "dB", "accepted"]
    assert "psnr db" in "\n".join(shown)
    narrow = lines(tables.comparison("resnet", [INT8 | {"metrics": [psnr]}], 80), 80)
    assert "psnr db" not in line_of("variant", narrow)
    assert "SQNR dB, psnr db, verdict;" in words_of(narrow)


def test_a_line_names_the_columns_that_a_narrow_terminal_has_no_room_for() -> None:
    wide, usual, narrow = (
        words_of(lines(tables.comparison("resnet", [ORIGINAL, INT8], width), width)) for width in (160, 80, 50)
    )
    assert "left out" not in wide
    assert usual.endswith(
        "left out for lack of width: version, 95% interval, cosine, SQNR dB, verdict;"
        " a wider terminal or octet compare resnet --json shows all"
    )
    assert "size ratio" in narrow


def test_only_the_default_is_marked() -> None:
    shown = lines(tables.comparison("resnet", [ORIGINAL, INT8], 160), 160)
    assert line_of("original", shown).split()[1] == "*"
    assert "*" not in line_of("int8", shown)


def test_what_was_not_measured_is_a_dash_and_never_a_zero() -> None:
    cells = line_of("original", lines(tables.comparison("resnet", [ORIGINAL], 160), 160)).split()
    assert cells[5:] == ["100%", *["–"] * 9]


def test_revisions_are_told_apart_only_where_there_are_several() -> None:
    one = lines(tables.comparison("resnet", [ORIGINAL, INT8], 160), 160)
    two = lines(tables.comparison("resnet", [ORIGINAL, INT8 | {"revision": 2}], 160), 160)
    assert not any("revision" in line for line in one)
    assert any("revision" in line for line in two)
    assert line_of("int8", two).split()[:3] == ["int8", "2", "2"]


def test_the_footnote_says_what_the_figures_were_measured_on() -> None:
    assert "256 samples of 'cifar10'" in tables.footnote([ORIGINAL, INT8])
    assert "No dataset" in tables.footnote([ORIGINAL])


def test_an_id_of_a_job_is_never_cut_short() -> None:
    job = JOB | {"id": "0123456789abcdef" * 2, "model": "a-model-with-a-very-long-name-" * 2, "progress": 0.4}
    shown = lines(tables.jobs([job]), 80)
    assert any(job["id"] in line for line in shown)
    assert any(line.rstrip().endswith("40%") for line in shown)


def test_jobs_of_short_names_take_one_line_each_at_80_columns() -> None:
    names = {"model": "resnet20", "variant": "int8-new"}
    running = JOB | names | {"state": "running", "stage": "calibrate", "progress": 0.4}
    shown = lines(tables.jobs([running, JOB | names | {"state": "succeeded", "stage": "done", "progress": 1.0}]), 80)
    rows = [line.split()[1:] for line in shown if "0000" in line]
    assert rows == [
        ["resnet20", "int8-new", "running", "calibrate", "40%"],
        ["resnet20", "int8-new", "succeeded", "100%"],
    ]


def test_failures_tell_the_reason_to_the_letter() -> None:
    failed = JOB | {"state": "failed", "error": "expected [batch, 3], got [/x]"}
    assert lines(tables.failures([JOB, failed]), 120) == ["int8 of resnet failed: expected [batch, 3], got [/x]"]


@pytest.mark.parametrize(
    ("size_bytes", "words"), [(0, "0.00 MB"), (1_234_567, "1.23 MB"), (999_000_000, "999.00 MB"), (10**9, "1.00 GB")]
)
def test_sizes_are_in_decimal_units(size_bytes: int, words: str) -> None:
    assert tables.size(size_bytes) == words


@pytest.mark.parametrize("width", [160, 120, 100, 80, 70, 60, 50])
def test_what_has_no_room_is_left_out_and_never_cut(width: int) -> None:
    shown = lines(tables.comparison("resnet", [ORIGINAL, INT8], width), width)
    assert max(len(line) for line in shown) <= width
    assert not any("…" in line for line in shown)
    assert {"int8", "85.55%", "0.199", "1.95x"} <= {*line_of("int8", shown).split()}
