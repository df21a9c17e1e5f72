import io
import json
import webbrowser
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from tests.app.cli.answers import INT8
from tests.app.cli.conftest import Octet

LAYERS = [
    {"name": f"/layer{number}/Conv", "operator": "Conv", "sqnr_db": 20.0 + number, "repairs": ["bias corrected"]}
    for number in range(12)
]
REPORT: dict[str, Any] = {
    "model": "resnet",
    "variant": INT8,
    "report": {"notes": ["16-bit sums would saturate"], "layers": LAYERS},
}
PAGE, TABLE = "<!doctype html><title>resnet · int8</title>", "name,operator,sqnr_db\r\n/layer0/Conv,Conv,20.0\r\n"


def gateway(request: httpx.Request) -> httpx.Response:
    """Answers in the form that is asked for."""
    assert request.url.path == "/api/v1/models/resnet/variants/int8/report"
    accepted = request.headers["Accept"]
    content = {"text/html": PAGE, "text/csv": TABLE}.get(accepted, json.dumps(REPORT))
    return httpx.Response(200, text=content, headers={"Content-Type": f"{accepted}; charset=utf-8"})


def without_csv(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=REPORT)


def unknown(request: httpx.Request) -> httpx.Response:
    return httpx.Response(404, json={"detail": "'resnet' has no variant 'int8'"})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Addresses that a browser was asked for; the user's own folder is a temporary one."""
    addresses: list[str] = []

    def note(address: str) -> bool:
        addresses.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    monkeypatch.setattr(typer, "get_app_dir", lambda _: str(tmp_path / "own"))
    return addresses


def test_the_verdict_the_figures_and_the_noisiest_layers_are_printed(octet: Octet, output: io.StringIO) -> None:
    assert octet(gateway, "report", "resnet", "int8").exit_code == 0
    shown = output.getvalue()
    for part in ("resnet · int8", "1.95x as fast", "85.55%", "p50 0.199 ms", "256 held-out samples of 'cifar10'"):
        assert part in shown
    assert "16-bit sums would saturate" in shown
    assert "the 10 noisiest of 12 layers" in shown
    assert "bias corrected" in shown
    assert "/layer9/Conv" in shown
    assert "/layer10/Conv" not in shown


def test_as_many_layers_are_shown_as_are_asked_for(octet: Octet, output: io.StringIO) -> None:
    assert octet(gateway, "report", "resnet", "int8", "--layers", "0").exit_code == 0
    assert "/layer0/Conv" not in output.getvalue()


def test_markup_in_names_is_text(octet: Octet, output: io.StringIO) -> None:
    odd = REPORT | {"report": {"layers": [LAYERS[0] | {"name": "[bold]x[/bold]"}]}}
    assert octet(lambda _: httpx.Response(200, json=odd), "report", "resnet", "int8").exit_code == 0
    assert "[bold]x[/bold]" in output.getvalue()


@pytest.mark.parametrize(("form", "content"), [("html", PAGE), ("csv", TABLE), ("json", json.dumps(REPORT))])
def test_a_format_without_a_file_goes_to_standard_output_as_it_came(octet: Octet, form: str, content: str) -> None:
    ended = octet(gateway, "report", "resnet", "int8", "--format", form)
    assert ended.exit_code == 0
    assert ended.stdout_bytes == content.encode()


@pytest.mark.parametrize(("name", "content"), [("r.html", PAGE), ("r.CSV", TABLE), ("r.json", json.dumps(REPORT))])
def test_a_file_is_written_as_its_ending_says(
    octet: Octet, output: io.StringIO, tmp_path: Path, name: str, content: str
) -> None:
    assert octet(gateway, "report", "resnet", "int8", "--output", str(tmp_path / name)).exit_code == 0
    assert (tmp_path / name).read_bytes() == content.encode()
    assert name in output.getvalue()


def test_a_format_wins_over_the_ending(octet: Octet, output: io.StringIO, tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    assert octet(gateway, "report", "resnet", "int8", "-o", str(target), "--format", "csv").exit_code == 0
    assert target.read_bytes() == TABLE.encode()


def test_open_keeps_the_page_in_a_folder_of_the_users_and_shows_it(
    octet: Octet, output: io.StringIO, opened: list[str], tmp_path: Path
) -> None:
    assert octet(gateway, "report", "resnet", "int8", "--open").exit_code == 0
    kept = tmp_path / "own" / "reports" / "resnet-int8.html"
    assert kept.read_text() == PAGE
    assert opened == [kept.as_uri()]
    assert str(kept) in output.getvalue().replace("\n", "")
    assert "1.95x as fast" in output.getvalue()


def test_where_there_is_no_browser_the_path_is_said(
    octet: Octet, output: io.StringIO, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    target = tmp_path / "page.html"
    assert octet(gateway, "report", "resnet", "int8", "--open", "--output", str(target)).exit_code == 0
    assert "No browser was found here" in output.getvalue()
    assert target.read_text() == PAGE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--output", "report.txt"), "name a --format"),
        (("--open", "--format", "csv"), "leave --format out"),
    ],
)
def test_what_does_not_go_together_is_refused(octet: Octet, arguments: tuple[str, ...], said: str) -> None:
    ended = octet(gateway, "report", "resnet", "int8", *arguments)
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())


def test_a_server_that_has_no_such_format_is_not_taken_at_its_word(octet: Octet, tmp_path: Path) -> None:
    target = tmp_path / "layers.csv"
    ended = octet(without_csv, "report", "resnet", "int8", "--output", str(target))
    assert str(ended.exception) == "the server has no report as csv"
    assert not target.exists()


def test_the_servers_refusal_is_passed_on(octet: Octet) -> None:
    assert "has no variant 'int8'" in str(octet(unknown, "report", "resnet", "int8").exception)


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(octet: Octet, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "report.html"
    ended = octet(gateway, "report", "resnet", "int8", "--output", str(target))
    assert str(target) in str(ended.exception)
