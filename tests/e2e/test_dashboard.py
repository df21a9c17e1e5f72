"""The dashboard, by clicking: a browser that reaches nothing but the gateway, a real model and real jobs."""

import base64
import json
import re
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.browsing import Window, is_good
from tests.e2e.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"
JOB_MS = 120_000

EVIL = '"><img src=x onerror=alert(1)><b>'


def drop(page: Page, label: str, name: str, content: bytes) -> None:
    """Let go of a file over the field of that label, as the browser tells of it."""
    files = page.evaluate_handle(
        """([name, text]) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
            return files;
        }""",
        [name, base64.b64encode(content).decode()],
    )
    page.locator("[data-drop]", has_text=label).dispatch_event("drop", {"dataTransfer": files})


def test_from_an_upload_to_a_new_default_by_clicking(window: Window, embedded: Service) -> None:
    page = window.open("/")
    expect(page.get_by_text("No model yet")).to_be_visible()
    is_good(window, "models-empty")

    page.get_by_role("link", name="Datasets").click()
    page.get_by_label("Drop samples here").set_input_files(EXAMPLES / "cifar10_512.npz")
    expect(page.get_by_label("Name", exact=True)).to_have_value("cifar10_512")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("row", name=re.compile("cifar10_512"))).to_contain_text("512")
    is_good(window, "datasets")

    page.get_by_role("link", name="Models").click()
    page.get_by_label("Drop an ONNX model here").set_input_files(EXAMPLES / "resnet20.onnx")
    expect(page.get_by_label("Name", exact=True)).to_have_value("resnet20")
    page.get_by_label("Dataset", exact=True).select_option("cifar10_512")
    page.get_by_role("checkbox", name=re.compile("^int8")).check()
    page.get_by_role("button", name="Upload").click()

    expect(page).to_have_url(re.compile("/models/resnet20$"))
    progress = page.get_by_role("progressbar", name="Progress of int8 of resnet20")
    expect(progress).to_have_attribute("value", re.compile(r"0\.[1-9]"), timeout=JOB_MS)
    is_good(window, "model-under-way")

    # Nobody loads the page anew: the comparison comes with the job's end.
    row = page.get_by_role("row", name=re.compile("^int8 "))
    expect(row).to_be_visible(timeout=JOB_MS)
    expect(row).to_contain_text("accepted")
    measured = embedded.variants("resnet20")["int8"]
    expect(row).to_contain_text(f"{measured['speedup']:.2f}×")
    expect(row).to_contain_text(f"{measured['accuracy']:.2%}")
    expect(page.locator("#tradeoff canvas")).to_be_visible()
    is_good(window, "model-compared")

    row.get_by_role("link", name="Report").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("int8")
    page.go_back()

    page.get_by_role("button", name="Make int8 the default").click()
    expect(page.get_by_role("status")).to_have_text("int8 answers by default now.")
    expect(row).to_contain_text("default")
    assert embedded.http.get("/api/v1/models/resnet20").json()["default_variant"] == "int8"

    page.get_by_role("link", name="Models", exact=True).first.click()
    expect(page.get_by_role("row", name=re.compile("^resnet20"))).to_contain_text("int8")
    is_good(window, "models")


def test_a_job_is_made_by_its_schema_watched_and_cancelled(window: Window, embedded: Service) -> None:
    embedded.upload_dataset((EXAMPLES / "cifar10_512.npz").read_bytes())
    embedded.upload_model((EXAMPLES / "resnet20.onnx").read_bytes())
    page = window.open("/models/model/quantize")
    page.get_by_role("radio", name=re.compile("^mixed")).check()
    page.locator("details.more:visible").get_by_text("Advanced").click()
    longest = page.get_by_role("spinbutton", name="Max seconds")
    expect(longest).to_have_attribute("max", "86400")
    longest.fill("600")
    page.get_by_label("Label of the variant").fill("original")
    is_good(window, "quantize")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("alert").filter(has_text="a variant cannot be called 'original'")).to_be_visible()

    page.get_by_label("Label of the variant").fill("searched")
    page.get_by_role("button", name="Start the job").click()
    expect(page).to_have_url(re.compile("/models/model$"))
    (job,) = embedded.http.get("/api/v1/jobs").json()
    assert (job["method"], job["variant"], job["options"]["max_seconds"]) == ("mixed", "searched", 600.0)

    page.get_by_role("link", name="searched").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("cancelled", exact=True)).to_be_visible(timeout=JOB_MS)
    expect(page.get_by_role("link", name="Try again")).to_be_visible()
    is_good(window, "job-cancelled")
    page.get_by_role("link", name="Jobs", exact=True).first.click()
    is_good(window, "jobs")


def test_what_is_wrong_with_an_upload_is_said_at_its_field(window: Window, model_bytes: bytes) -> None:
    page = window.open("/")
    drop(page, "Drop an ONNX model", "Not A Model.onnx", b"nothing that is a model")
    expect(page.get_by_label("Name", exact=True)).to_have_value("not-a-model")
    page.get_by_role("button", name="Upload").click()
    said = page.locator("#file-problem")
    expect(said).not_to_be_empty()
    assert window.faults() == []
    drop(page, "Drop an ONNX model", "good.onnx", model_bytes)
    expect(said).to_be_empty()
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="not-a-model")).to_be_visible()


def test_a_deletion_is_asked_about_first(window: Window, embedded: Service, model_bytes: bytes) -> None:
    embedded.upload_model(model_bytes)
    page = window.open("/models/model")
    page.get_by_role("button", name="Delete the model").click()
    assert window.faults() == []
    page.get_by_role("button", name="Keep it").click()
    assert embedded.http.get("/api/v1/models/model").status_code == 200
    page.get_by_role("button", name="Delete the model").click()
    page.get_by_role("button", name="Yes, go on").click()
    expect(page.get_by_text("No model yet")).to_be_visible()
    assert embedded.http.get("/api/v1/models/model").status_code == 404


def test_a_button_pressed_before_scripts_have_come_is_not_lost(
    window: Window, embedded: Service, model_bytes: bytes
) -> None:
    embedded.upload_model(model_bytes)
    held: list[Route] = []
    window.page.route("**/static/octet.js", lambda route: held.append(route))
    window.page.goto("/models/model", wait_until="commit")
    window.page.get_by_role("button", name="Delete the model").click()
    expect(window.page.get_by_role("button", name="Yes, go on")).not_to_be_visible()
    held[0].continue_()
    window.page.get_by_role("button", name="Yes, go on").click()
    expect(window.page.get_by_text("No model yet")).to_be_visible()


def test_markup_in_labels_is_text(window: Window, embedded: Service, model_bytes: bytes) -> None:
    embedded.upload_model(model_bytes, labels=json.dumps([EVIL, "dog", "eel", "fox"]))
    page = window.open("/models/model")
    expect(page.get_by_text(EVIL)).to_be_visible()
    assert page.locator("main img, main b").count() == 0


def test_pages_are_reached_and_used_by_keyboard(window: Window, embedded: Service, model_bytes: bytes) -> None:
    embedded.upload_model(model_bytes)
    page = window.open("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.get_by_text("Upload a model").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_be_visible()


def test_pages_say_the_same_without_scripts(chromium: Browser, embedded: Service, model_bytes: bytes) -> None:
    embedded.upload_model(model_bytes, quantize="fp16")
    context = chromium.new_context(base_url=embedded.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/models/model")
    expect(page.get_by_role("link", name="fp16")).to_be_visible()
    context.close()
