"""Pages in a real browser that reaches nothing but the gateway: as people see them, and as axe does."""

import os
import shutil
from pathlib import Path
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Route, expect

from tests.servers import missing

DESKTOP, PHONE = 1280, 390
Scheme = Literal["light", "dark"]

# As long as what is pressed is waited for: a busy machine is no defect.
expect.set_options(timeout=30_000)


def launched(playwright: Playwright) -> Browser:
    """A headless Chromium of the system."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing("Chromium")
    return playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])


def artifacts(fallback: Path) -> Path:
    """Where screenshots are kept: the folder that `OCTET_TEST_ARTIFACTS` names, or `fallback`."""
    folder = Path(os.environ.get("OCTET_TEST_ARTIFACTS") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Window:
    """One browser window on the service at `url`. `complaints` are errors of scripts, and what the policy refused.

    A `thorough` one checks all schemes at all widths; the others each scheme and each width once.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        width: int = DESKTOP,
        scheme: Scheme = "light",
        thorough: bool = False,
    ) -> None:
        self.thorough = thorough
        self._context = browser.new_context(
            base_url=url, viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page: Page = self._context.new_page()
        self.beyond: list[str] = []
        self.complaints: list[str] = []
        self._url = url
        self.page.route("**/*", self._only_the_gateway)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)

    def open(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def resize(self, width: int) -> None:
        self.page.set_viewport_size({"width": width, "height": 900})

    def scheme(self, scheme: Scheme) -> None:
        self.page.emulate_media(color_scheme=scheme)

    def shoot_all(self, name: str) -> None:
        """Keep pictures of the page, as on a desktop and a phone, light and dark, where `OCTET_TEST_ARTIFACTS` says."""
        folder = os.environ.get("OCTET_TEST_ARTIFACTS")
        if not folder:
            return
        for width, size in ((DESKTOP, "desktop"), (PHONE, "phone")):
            for scheme in ("light", "dark"):
                self.resize(width)
                self.scheme(scheme)
                self.page.wait_for_timeout(150)
                self.page.evaluate("scrollTo(0, 0)")
                self.page.screenshot(path=Path(folder) / f"{name}-{size}-{scheme}.png", full_page=True)

    def faults(self) -> list[str]:
        """What axe finds serious or critical, a line each."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes']]}"
            for each in found
            if each["impact"] in {"serious", "critical"}
        ]

    def sideways_pixels(self) -> int:
        """How much wider than the window the page is."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    def close(self) -> None:
        self._context.close()

    def _only_the_gateway(self, route: Route) -> None:
        if route.request.url.startswith((self._url, "data:", "blob:")):
            route.continue_()
        else:
            self.beyond.append(route.request.url)
            route.abort()

    def _heard(self, message: ConsoleMessage) -> None:
        # What the API refuses is a line of the console too, and a part of some tests.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.text} ({message.location})")


def is_good(window: Window, name: str) -> None:
    """The page is kept as pictures, fits a phone, and axe finds no serious fault in it, light and dark."""
    window.shoot_all(name)
    looks: list[tuple[Scheme, int]] = [("light", DESKTOP), ("dark", PHONE)]
    if window.thorough:
        looks += [("light", PHONE), ("dark", DESKTOP)]
    for scheme, width in looks:
        window.scheme(scheme)
        window.resize(width)
        assert window.faults() == []
        if width == PHONE:
            assert window.sideways_pixels() == 0
    window.resize(DESKTOP)
    window.scheme("light")
