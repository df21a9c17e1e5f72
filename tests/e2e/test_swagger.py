"""Swagger UI in a real browser that reaches nothing but the gateway: every example, pressed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page

from tests.e2e.browsing import Window
from tests.e2e.service import Service, eventually
from tests.e2e.shared import running_service
from tests.e2e.test_keys import octet

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPERIMENTS = "/api/v1/models/resnet20/experiments"

#: Of no use on the demo, whose variants are one file each.
NEEDS_A_LARGE_MODEL = "download_variant_data"
#: Their examples are of what others make, and end it.
LAST = ("delete_model", "delete_dataset", "delete_variant", "repository_unload", "repository_load")


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the model, the dataset and two of the variants that `octet demo` brings."""
    with running_service(tmp_path_factory.mktemp("demonstrated")) as service:
        bring_demo(service)
        for method in ("fp16", "int8"):
            job = service.submit(model="resnet20", method=method, dataset="cifar10")
            assert service.finished(job)["state"] == "succeeded"
        yield service


def bring_demo(service: Service) -> None:
    service.upload_dataset((EXAMPLES / "cifar10_512.npz").read_bytes(), name="cifar10")
    labels = (EXAMPLES / "cifar10_labels.json").read_text()
    service.upload_model((EXAMPLES / "resnet20.onnx").read_bytes(), name="resnet20", labels=labels)


@dataclass
class SwaggerUi:
    """The page at /docs; `pressed` are the calls that were tried, by their operation's id."""

    page: Page
    document: Mapping[str, Any]
    pressed: set[str] = field(default_factory=set)

    def operations(self) -> dict[str, Mapping[str, Any]]:
        return {each["operationId"]: each for path in self.document["paths"].values() for each in path.values()}

    def tag(self, name: str) -> str:
        (tag,) = self.operations()[name]["tags"]
        return str(tag)

    def listed(self) -> set[str]:
        """The calls that are on the page now."""
        found: list[str] = self.page.locator(".opblock").evaluate_all("all => all.map(each => each.id)")
        names = {f"operations-{self.tag(name)}-{name}": name for name in self.operations()}
        return {names[each] for each in found}

    def call(self, name: str) -> Locator:
        tag = self.tag(name)
        return self.page.locator(f"#operations-{tag}-{name}")

    def filter(self, words: str) -> None:
        """List only calls that these words are about: what is listed is drawn anew at each change."""
        box = self.page.locator(".operation-filter-input")
        if box.input_value() != words:
            # From nothing at all, so that what is there next is what was asked for.
            box.fill("nothing has these words")
            self.page.locator(".opblock").first.wait_for(state="detached")
            box.fill(words)

    def authorize(self, key: str) -> None:
        self.page.get_by_role("button", name="Authorize").click()
        asked = self.page.locator(".auth-container").filter(has_text="bearer")
        asked.locator("input").fill(key)
        asked.get_by_role("button", name="Apply credentials").click()
        self.page.locator(".btn-done").first.click()

    def press(self, name: str, *, file: Path | None = None, **ids: str) -> str:
        """Try the call as it stands, but for a file and ids, which nobody can know before; returns what is shown."""
        self.filter(self.tag(name))
        call = self.call(name)
        call.locator(".opblock-summary-control").click()
        for parameter, value in ids.items():
            call.locator(f'tr[data-param-name="{parameter}"] input').fill(value)
        if file is not None:
            call.locator('input[type="file"]').set_input_files(file)
        call.get_by_role("button", name="Execute").click()
        answer = call.locator(".live-responses-table tr.response")
        # Not `expect`: each time that it finds nothing yet, it describes the whole page.
        answer.locator(".response-col_status", has_text=re.compile(r"\d{3}")).wait_for(timeout=30_000)
        shown = answer.inner_text()
        assert shown.lstrip().startswith("2"), f"{name}: {shown}"
        self.pressed.add(name)
        call.locator(".opblock-summary-control").click()
        return shown


def opened(window: Window, service: Service) -> SwaggerUi:
    """The page, with every call on it."""
    ui = SwaggerUi(window.open("/docs"), service.http.get("/openapi.json").json())
    ui.page.locator(".opblock").first.wait_for()
    assert ui.listed() == set(ui.operations())
    return ui


def test_examples_of_an_upload_a_job_and_an_inference_work_when_they_are_pressed(
    window: Window, embedded: Service
) -> None:
    bring_demo(embedded)
    ui = opened(window, embedded)
    ui.press("submit_job")
    # The example asks for INT8 under the label `my-int8`.
    (job,) = embedded.http.get("/api/v1/jobs").json()
    assert embedded.finished(job["id"])["variant"] == "my-int8"
    assert ":ship" in ui.press("infer")
    ui.press("upload_model", file=EXAMPLES / "resnet20.onnx")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_example_works_when_it_is_pressed(chromium: Browser, demonstrated: Service) -> None:
    """By somebody who has signed in with "Authorize", since the service has a key by now."""
    key = octet(demonstrated, "keys", "create", "me", "--scope", "admin")
    demonstrated.http.headers["X-API-Key"] = key
    eventually(lambda: httpx.get(f"{demonstrated.url}/api/v1/models").status_code == 401, what="the key")
    window = Window(chromium, demonstrated.url)
    ui = opened(window, demonstrated)
    ui.authorize(key)
    _press_uploads(ui)
    _press_keys(ui, demonstrated)
    _press_jobs(ui, demonstrated)
    _press_experiments(ui, demonstrated)
    assert ":ship" in ui.press("infer")
    _press_the_others(ui)
    window.close()
    assert window.beyond == []
    assert window.complaints == []
    assert set(ui.operations()) - ui.pressed == {NEEDS_A_LARGE_MODEL}


def _press_uploads(ui: SwaggerUi) -> None:
    ui.press("upload_dataset", file=EXAMPLES / "cifar10_512.npz")
    ui.press("upload_model", file=EXAMPLES / "resnet20.onnx")


def _press_keys(ui: SwaggerUi, service: Service) -> None:
    ui.press("create_key")
    made = {each["name"]: each["id"] for each in service.http.get("/api/v1/keys").json()}
    for name in ("get_key", "revoke_key"):
        ui.press(name, key_id=made["shop"])


def _press_jobs(ui: SwaggerUi, service: Service) -> None:
    ui.press("submit_job")
    made = service.http.get("/api/v1/jobs").json()[0]
    assert made["variant"] == "my-int8"
    assert service.finished(made["id"])["state"] == "succeeded"
    for name in ("get_job", "follow_job"):
        ui.press(name, job_id=made["id"])
    endless = {"model": "resnet20", "method": "mixed", "dataset": "cifar10", "options": {"max_seconds": 3600}}
    ui.press("cancel_job", job_id=service.submit(**endless))


def _press_experiments(ui: SwaggerUi, service: Service) -> None:
    ui.press("create_experiment")
    first = service.http.get(EXPERIMENTS).json()[0]["id"]
    ui.press("start_experiment", experiment_id=first)
    ui.press("report_outcomes")
    for action in ("get", "change", "assign", "pause", "stop", "promote", "follow", "timeline"):
        name = {"assign": "assign_unit", "timeline": "get_experiment_timeline"}.get(action, f"{action}_experiment")
        ui.press(name, experiment_id=first)
    arms = [{"variant": "original", "weight": 1, "control": True}, {"variant": "int8", "weight": 1}]
    second = service.http.post(EXPERIMENTS, json={"name": "second", "arms": arms}).json()["id"]
    assert service.http.post(f"{EXPERIMENTS}/{second}/start").status_code == 200
    ui.press("rollback_experiment", experiment_id=second)


def _press_the_others(ui: SwaggerUi) -> None:
    left = [name for name in ui.operations() if name not in {*ui.pressed, *LAST, NEEDS_A_LARGE_MODEL}]
    for name in (*left, *LAST):
        ui.press(name)


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/metrics", "/static/vendor/swagger-ui/swagger-ui.css"])
def test_pages_for_operators_are_there(embedded: Service, path: str) -> None:
    assert embedded.http.get(path).status_code == 200
