"""The dashboard, by clicking."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.browsing import Window, artifacts, launched
from tests.e2e.service import Service


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Browser, embedded: Service, tmp_path: Path) -> Iterator[Window]:
    window = Window(chromium, embedded.url, artifacts(tmp_path / "shots"))
    yield window
    window.close()
    assert window.beyond == []
    assert window.complaints == []


def test_the_first_page_opens(window: Window) -> None:
    window.open("/")
    assert window.faults() == []
    window.shoot_all("models-empty")
