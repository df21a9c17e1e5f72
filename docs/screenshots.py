"""Takes the pictures of the README from a running demo: `make screenshots`. Needs Chromium and the extra `test`."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright

IMAGES = Path(__file__).parent / "images"
MODEL, DATASET = "resnet20", "cifar10"
SECONDS = 600

#: By the name of the picture: the page, and how much of it is shown, in pixels.
PICTURES = {
    "comparison": (f"/models/{MODEL}", 1280, 1760),
    "report": (f"/api/v1/models/{MODEL}/variants/int8/report", 1280, 1400),
    "experiment": ("", 1280, 1240),
    "phone": (f"/models/{MODEL}", 390, 1100),
}


@contextmanager
def demo(home: Path) -> Iterator[str]:
    """The address of `octet demo`, once all its variants are there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "app.cli", "demo", "--home", str(home), "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, {"original", "fp16", "dynamic", "int8"}, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, labels: set[str], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            sys.exit("the demo ended")
        try:
            rows = httpx.get(f"{url}/api/v1/models/{MODEL}/variants").json()
            if {row["variant"] for row in rows if row["state"] == "ready"} >= labels:
                return
        except (httpx.TransportError, ValueError, TypeError):
            pass
        time.sleep(0.5)
    sys.exit(f"not all of {', '.join(sorted(labels))} were there within {SECONDS} s")


def compare_live(url: str) -> str:
    """The page of an experiment that has some traffic behind it."""
    arms = [{"variant": "original", "weight": 50, "control": True}, {"variant": "int8", "weight": 50}]
    wanted = {
        "name": "int8-on-live-traffic",
        "arms": arms,
        "unit": {"from": ["param:unit_id"], "on_missing": "control"},
        "shadow": [{"variant": "int8", "sample": 0.2}],
        "guardrails": [{"metric": "error_rate", "margin_abs": 0.01}, {"metric": "latency_p95", "margin_rel": 0.25}],
    }
    with httpx.Client(base_url=url, timeout=60) as http:
        created = http.post(f"/api/v1/models/{MODEL}/experiments", json=wanted).raise_for_status()
        http.post(f"{created.headers['Location']}/start").raise_for_status()
        tensor = {"name": "image", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0.1] * 3072}
        tensor["name"] = http.get(f"/v2/models/{MODEL}").json()["inputs"][0]["name"]
        for number in range(1500):
            request = {"inputs": [tensor], "parameters": {"unit_id": f"user-{number}"}}
            http.post(f"/v2/models/{MODEL}/infer", json=request).raise_for_status()
    time.sleep(3)
    return f"/experiments/{created.json()['id']}"


def shoot(browser: Browser, url: str, path: str, width: int, height: int, target: Path) -> None:
    context = browser.new_context(base_url=url, viewport={"width": width, "height": height}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(path)
    # Charts are drawn after the page is there.
    page.wait_for_timeout(1000)
    page.screenshot(path=target)
    context.close()


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is needed: on Debian, apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, demo(Path(folder)) as url, sync_playwright() as playwright:
        job = {"model": MODEL, "method": "mixed", "dataset": DATASET}
        httpx.post(f"{url}/api/v1/jobs", json=job).raise_for_status()
        wait_for(url, {"mixed"})
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (path, width, height) in PICTURES.items():
            target = IMAGES / f"{name}.png"
            shoot(browser, url, path or compare_live(url), width, height, target)
            print(f"{target.relative_to(Path.cwd())}: {target.stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
