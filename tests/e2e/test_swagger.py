"""Swagger UI in a real browser that reaches nothing but the gateway."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from tests.conftest import missing
from tests.e2e.service import Service


def test_swagger_ui_uploads_a_model_without_a_network(embedded: Service, model_bytes: bytes, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing("Chromium")
    (tmp_path / "model.onnx").write_bytes(model_bytes)
    beyond: list[str] = []

    def only_the_gateway(route: Route) -> None:
        if route.request.url.startswith((embedded.url, "data:", "blob:")):
            route.continue_()
        else:
            beyond.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page()
            page.route("**/*", only_the_gateway)
            page.goto(f"{embedded.url}/docs")
            _upload(page, tmp_path / "model.onnx")
        finally:
            browser.close()
    assert beyond == []
    assert embedded.http.get("/api/v1/models/from-browser").json()["revision"] == 1


def _upload(page: Page, model: Path) -> None:
    call = page.locator(".opblock-post").filter(has=page.locator('[data-path="/api/v1/models"]'))
    call.locator(".opblock-summary-control").click()
    call.locator('input[type="file"]').set_input_files(model)
    call.locator('tr[data-property-name="name"] input[type="text"]').fill("from-browser")
    call.get_by_role("button", name="Execute").click()
    expect(call.locator(".live-responses-table tr.response .response-col_status")).to_contain_text(
        "201", timeout=30_000
    )


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/metrics", "/static/swagger/swagger-ui.css"])
def test_pages_for_operators_are_there(embedded: Service, path: str) -> None:
    assert embedded.http.get(path).status_code == 200
