"""The report in a real browser: served, and from a disk."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Route

from tests.e2e.browsing import Window
from tests.e2e.conftest import npz
from tests.e2e.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = "/api/v1/models/resnet20/variants/int8/report"


@pytest.fixture
def evaluated(embedded: Service) -> Service:
    """The example, quantized so coarsely that answers change."""
    http = embedded.http
    with np.load(EXAMPLES / "cifar10_512.npz") as arrays:
        embedded.upload_dataset(npz(**{name: array[:128] for name, array in arrays.items()}), name="cifar10")
    labels = (EXAMPLES / "cifar10_labels.json").read_text()
    with (EXAMPLES / "resnet20.onnx").open("rb") as file:
        fields = {"name": "resnet20", "labels": labels}
        http.post("/api/v1/models", data=fields, files={"file": file}).raise_for_status()
    job = {"model": "resnet20", "method": "int8", "dataset": "cifar10", "options": {"activation_bits": 4}}
    ended = embedded.finished(http.post("/api/v1/jobs", json=job).json()["id"])
    assert ended["state"] == "succeeded", ended
    return embedded


def test_a_report_is_read_in_a_browser_and_kept_on_a_disk(
    evaluated: Service, chromium: Browser, tmp_path: Path
) -> None:
    window = Window(chromium, evaluated.url)
    page = window.open(PATH)
    assert page.locator("h1").inner_text() == "resnet20 · int8"
    assert page.locator("[data-chart]").count() == page.locator(".uplot canvas").count() > 3
    pictures = page.locator(".samples img")
    assert pictures.count() > 0
    assert pictures.first.evaluate("image => image.naturalWidth") == 32
    window.shoot_all("report")
    for width in (1280, 390):
        window.resize(width)
        assert window.faults() == []
        assert window.sideways_pixels() == 0
    page.get_by_role("link", name="Layers, the noisiest first").first.click()
    assert page.url.endswith("#layers")
    assert page.get_by_role("link", name="All variants of resnet20").get_attribute("href") == "/models/resnet20"
    assert window.beyond == []
    assert window.complaints == []
    window.close()

    file = tmp_path / "report.html"
    file.write_text(evaluated.http.get(PATH, headers={"Accept": "text/html"}).text)
    _check_from_disk(chromium, file)


def _check_from_disk(chromium: Browser, file: Path) -> None:
    asked: list[str] = []
    page = chromium.new_page()

    def only_the_file(route: Route) -> None:
        asked.append(route.request.url)
        route.continue_() if route.request.url == file.as_uri() else route.abort()

    complaints: list[str] = []
    page.route("**/*", only_the_file)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(file.as_uri())
    assert page.locator(".uplot canvas").count() > 3
    assert page.locator("[data-served]").count() == 0
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert complaints == []
    page.close()

    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    page.locator("#latency-chart summary").click()
    assert page.locator("#latency-chart table").is_visible()
    context.close()
