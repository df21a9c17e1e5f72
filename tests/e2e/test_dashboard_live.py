"""What is live in the dashboard, by clicking: trying variants, experiments under traffic, the system."""

import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.browsing import Window, is_good
from tests.e2e.conftest import npz
from tests.e2e.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"
MEAN, STD = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
EVIL = '"><img src=x onerror=alert(1)><b>'
WAIT_MS = 60_000


@pytest.fixture
def model(embedded: Service, samples: dict[str, Any]) -> Service:
    """`model` is the example, with a variant `fp16` and a dataset `samples` of some of its samples."""
    embedded.upload_dataset(npz(**{name: array[:64] for name, array in samples.items()}))
    labels = (EXAMPLES / "cifar10_labels.json").read_text()
    embedded.upload_model((EXAMPLES / "resnet20.onnx").read_bytes(), labels=labels)
    job = embedded.finished(embedded.submit(method="fp16", dataset="samples"), seconds=120)
    assert job["state"] == "succeeded", job
    return embedded


@pytest.fixture(scope="module")
def samples() -> dict[str, Any]:
    with np.load(EXAMPLES / "cifar10_512.npz") as arrays:
        return {name: arrays[name] for name in ("input", "label")}


def picture(sample: Any) -> Image.Image:
    """What the sample was, before it was normalised."""
    pixels = (sample.transpose(1, 2, 0) * STD + MEAN) * 255
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def as_png(image: Image.Image) -> dict[str, Any]:
    content = io.BytesIO()
    image.save(content, "PNG")
    return {"name": "picture.png", "mimeType": "image/png", "buffer": content.getvalue()}


def best(service: Service, sample: Any) -> str:
    """The class that the original answers."""
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": sample.ravel().tolist()}
    answer = service.http.post("/v2/models/model/versions/original/infer", json={"inputs": [tensor]}).json()
    return str(json.loads((EXAMPLES / "cifar10_labels.json").read_text())[int(np.argmax(answer["outputs"][0]["data"]))])


def typed(page: Page) -> Any:
    return np.array(json.loads(page.locator("[data-text]").input_value()), np.float32)


def test_an_image_is_tried_on_two_variants_side_by_side(
    window: Window, model: Service, samples: dict[str, Any]
) -> None:
    page = window.open("/models/model")
    page.get_by_role("link", name="Try it").click()
    expect(page.get_by_label("A Variant")).to_contain_text("original")
    is_good(window, "try-empty")
    page.get_by_role("button", name="Run on both").click()
    expect(page.get_by_role("alert").filter(has_text="Give input a value first")).to_be_visible()

    page.locator("[data-image]").set_input_files(as_png(picture(samples["input"][7])))
    expect(page.get_by_role("img", name="picture.png, as the model gets it")).to_be_visible()
    # The example model's own values are guessed by the size of its input.
    assert np.allclose(typed(page).reshape(3, 32, 32), samples["input"][7], atol=1e-3)

    page.get_by_role("button", name="Run 20 times").click()
    answers = page.get_by_label("Answers", exact=True)
    expect(answers.get_by_role("listitem").first).to_contain_text(best(model, samples["input"][7]), timeout=WAIT_MS)
    expect(answers).to_contain_text("same answer")
    expect(answers).to_contain_text("medians of 20 runs each")
    expect(answers.get_by_role("row", name=re.compile("fp16"))).to_contain_text(re.compile(r"[\d.]+ ms"))
    expect(answers.get_by_role("list")).to_have_count(2)
    is_good(window, "try-answers")


def test_an_image_of_another_size_becomes_what_a_dataset_would_make_of_it(
    window: Window, model: Service, samples: dict[str, Any]
) -> None:
    image = picture(samples["input"][3]).resize((333, 217), Image.Resampling.BICUBIC)
    page = window.open("/models/model/try")
    page.locator("[data-image]").set_input_files(as_png(image))
    expect(page.get_by_text("32 × 32, from 333 × 217")).to_be_visible()
    half_a_byte_and_some = 1.5 / 255 / STD.min()
    for resize, box in (("stretch", None), ("crop", ((333 - 217) / 2, 0, (333 + 217) / 2, 217))):
        page.get_by_label("Another size is met by").select_option(resize)
        made = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR, box)) / 255
        wanted = ((made - MEAN) / STD).transpose(2, 0, 1)
        assert np.abs(typed(page).reshape(3, 32, 32) - wanted).max() < half_a_byte_and_some

    page.get_by_label("Standard deviation, of each channel").fill("1, 2")
    expect(page.get_by_text("std has 3 numbers")).to_be_visible()


def test_numbers_and_samples_are_tried_and_what_is_wrong_is_said(window: Window, model: Service) -> None:
    page = window.open("/models/model/try")
    page.get_by_label("Number of the sample").fill("5")
    page.get_by_role("button", name="Take the sample").click()
    expect(page.get_by_text("Labelled ")).to_be_visible()
    assert typed(page).shape == (3072,)
    page.get_by_role("button", name="Run on both").click()
    expect(page.get_by_role("region", name="Answers", exact=True)).to_contain_text("logits", timeout=WAIT_MS)

    numbers = page.get_by_label("As JSON")
    numbers.fill("[1, 2")
    expect(page.get_by_text("This is no JSON")).to_be_visible()
    numbers.fill("[1, 2]")
    page.get_by_role("button", name="Run on both").click()
    expect(page.get_by_role("alert").filter(has_text="these are 2")).to_be_visible()
    page.get_by_role("button", name="Zeros").click()
    page.get_by_label("axis 0").fill("2")
    page.get_by_role("button", name="Zeros").click()
    page.get_by_role("button", name="Run on both").click()
    expect(page.get_by_text("the same answer for 2 of 2")).to_be_visible(timeout=WAIT_MS)


def test_what_the_server_refuses_is_said_in_its_words(window: Window, embedded: Service, model_bytes: bytes) -> None:
    embedded.upload_model(model_bytes, labels=json.dumps([EVIL, "dog", "eel", "fox"]))
    page = window.open("/models/model/try")
    page.get_by_role("button", name="Random").click()
    page.get_by_role("button", name="Run on both").click()
    expect(page.get_by_role("listitem").filter(has_text=EVIL)).to_have_count(2, timeout=WAIT_MS)
    assert page.locator("main img, main b").count() == 0
    assert embedded.http.post("/v2/repository/models/model/unload", json={}).status_code == 200
    page.get_by_role("button", name="Run on both").click()
    expect(page.get_by_role("alert").filter(has_text="unloaded")).to_be_visible(timeout=WAIT_MS)


class Users(threading.Thread):
    """Ask until told to stop, each request by another of 500 units, and report outcomes."""

    def __init__(self, url: str, sample: Any) -> None:
        super().__init__(daemon=True)
        self._http = httpx.Client(base_url=url, timeout=60)
        self._tensor = {"name": "input", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": sample.ravel().tolist()}
        self.stopping = threading.Event()
        self.failures: list[str] = []

    def run(self) -> None:
        turn = 0
        while not self.stopping.is_set():
            turn += 1
            unit = f"user-{turn % 500}"
            body = {"inputs": [self._tensor], "parameters": {"unit_id": unit}}
            answer = self._http.post("/v2/models/model/infer", json=body)
            if answer.status_code != 200:
                self.failures.append(answer.text)
            if turn % 50 == 0:
                self._http.post("/api/v1/outcomes", json=[{"unit": unit, "metric": "clicked", "value": 1}])
        self._http.close()


@pytest.fixture
def users(model: Service, samples: dict[str, Any]) -> Iterator[Users]:
    users = Users(model.url, samples["input"][0])
    yield users
    users.stopping.set()
    if users.is_alive():
        users.join()


def test_an_experiment_from_three_clicks_to_promotion(window: Window, model: Service, users: Users) -> None:
    page = window.open("/experiments")
    is_good(window, "experiments-empty")
    page.get_by_role("link", name=re.compile("^model")).click()
    expect(page.get_by_text("Choose at least one variant.")).to_be_visible()
    page.get_by_role("checkbox", name=re.compile("^fp16")).check()
    expect(page.get_by_text("original 50%, fp16 50%")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page).to_have_url(re.compile("/experiments/[0-9a-f]{32}$"), timeout=WAIT_MS)
    expect(page.get_by_text("running", exact=True)).to_be_visible()
    expect(page.get_by_text("no unit yet")).to_be_visible()
    is_good(window, "experiment-fresh")

    # Nobody loads the page anew: it follows the traffic.
    users.start()
    arm = page.get_by_role("row", name=re.compile("^fp16"))
    expect(arm.get_by_role("cell").first).to_have_text(re.compile(r"[1-9]\d"), timeout=WAIT_MS)
    expect(page.get_by_role("columnheader", name="clicked")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text("times less traffic").first).to_be_visible(timeout=WAIT_MS)
    is_good(window, "experiment-live")

    page.get_by_label("Coverage, in %").fill("80")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_text("coverage from 100% to 80%")).to_be_visible()
    (made,) = model.http.get("/api/v1/models/model/experiments").json()
    assert (made["coverage"], [each["metric"] for each in made["guardrails"]]) == (
        0.8,
        ["error_rate", "latency_p95", "disagreement"],
    )

    # What another does is seen without asking.
    assert model.http.post(f"/api/v1/models/model/experiments/{made['id']}/pause").status_code == 200
    page.get_by_role("button", name="Go on").click(timeout=WAIT_MS)
    expect(page.get_by_role("button", name="Pause")).to_be_visible()

    page.get_by_role("button", name="Promote fp16").click()
    assert window.faults() == []
    page.get_by_role("button", name="Yes, go on").click()
    expect(page.get_by_text("promoted", exact=True)).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text("fp16 promoted to be the default")).to_be_visible()
    expect(page.get_by_role("button", name="Promote fp16")).to_have_count(0)
    assert model.http.get("/api/v1/models/model").json()["default_variant"] == "fp16"
    users.stopping.set()
    users.join()
    assert users.failures == []
    is_good(window, "experiment-promoted")
    page.get_by_role("link", name="Experiments").first.click()
    expect(page.get_by_role("row", name=re.compile("experiment-1"))).to_contain_text("promoted")
    is_good(window, "experiments")


def test_all_that_an_experiment_can_have_is_set_up_by_the_form(window: Window, model: Service) -> None:
    page = window.open("/models/model/experiments")
    page.get_by_role("button", name="Keep as a draft").click()
    expect(page.locator("#arms-problem")).not_to_be_empty()
    page.get_by_role("checkbox", name=re.compile("^fp16")).check()
    page.get_by_text("Who, how much, and what must not get worse").click()
    page.get_by_label("Name", exact=True).fill("thorough")
    page.get_by_label("Who takes part").select_option("ramp")
    page.get_by_label("Steps, in %").fill("50, 10")
    page.get_by_label("fp16", exact=True).fill("25")
    page.get_by_label("Of all requests, in %").fill("10")
    page.get_by_role("checkbox", name=re.compile("^p95 latency")).uncheck()
    page.get_by_role("button", name="Add an outcome").click()
    page.get_by_text("Advanced").click()
    page.get_by_label("Where requests name their unit").fill("header:X-User\nparam:user")
    is_good(window, "experiment-form")
    page.get_by_role("button", name="Keep as a draft").click()
    expect(page.locator("#steps-problem")).to_contain_text("steps of a ramp rise")
    page.get_by_label("Steps, in %").fill("10, 50, 100")
    page.get_by_role("button", name="Keep as a draft").click()
    expect(page).to_have_url(re.compile("/experiments/[0-9a-f]{32}$"), timeout=WAIT_MS)

    (made,) = model.http.get("/api/v1/models/model/experiments").json()
    assert (made["name"], made["state"], made["coverage"]) == ("thorough", "draft", 0.1)
    assert [(each["variant"], each["weight"], each["control"]) for each in made["arms"]] == [
        ("original", 50, True),
        ("fp16", 25, False),
    ]
    assert made["ramp"] == {"steps": [0.1, 0.5, 1.0], "hold_s": 300, "min_units": 500}
    assert [(each["variant"], each["sample"]) for each in made["shadow"]] == [("fp16", 0.1)]
    assert made["unit"]["from"] == ["header:X-User", "param:user"]
    assert made["guardrails"] == [
        {"metric": "error_rate", "margin_abs": 0.005},
        {"metric": "disagreement", "max": 0.02},
        {"metric": "outcome:clicked", "margin_abs": 0.01},
    ]


def test_a_change_of_what_was_changed_meanwhile_is_refused_in_words(window: Window, model: Service) -> None:
    arms = [{"variant": "original", "weight": 50, "control": True}, {"variant": "fp16", "weight": 50}]
    url = "/api/v1/models/model/experiments"
    made = model.http.post(url, json={"name": "draft", "arms": arms}).json()
    page = window.open(f"/experiments/{made['id']}")
    page.get_by_label("Weight of fp16").fill("10")
    # The page hears of others' changes at once: as if it had not yet.
    page.locator("form[data-if-match]").evaluate("form => form.setAttribute('data-if-match', '\"99\"')")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="was changed meanwhile")).to_be_visible()


def test_what_was_typed_into_a_change_outlives_what_happens_meanwhile(window: Window, model: Service) -> None:
    arms = [{"variant": "original", "weight": 50, "control": True}, {"variant": "fp16", "weight": 50}]
    url = "/api/v1/models/model/experiments"
    made = model.http.post(url, json={"name": "draft", "arms": arms}).json()
    page = window.open(f"/experiments/{made['id']}")
    weight, coverage = page.get_by_label("Weight of fp16"), page.get_by_label("Coverage, in %")
    weight.fill("10")

    # Another starts it, and changes what was not typed: the page takes over all but the field.
    assert model.http.post(f"{url}/{made['id']}/start").status_code == 200
    expect(page.get_by_role("button", name="Pause")).to_be_visible(timeout=WAIT_MS)
    assert _patched(model, made["id"], coverage=0.8) == 200
    expect(coverage).to_have_value("80", timeout=WAIT_MS)
    expect(weight).to_have_value("10")
    expect(weight).to_be_focused()
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_text("weight of fp16 from 50 to 10")).to_be_visible(timeout=WAIT_MS)
    changed = model.http.get(f"{url}/{made['id']}").json()
    assert (changed["coverage"], changed["arms"][1]["weight"]) == (0.8, 10)

    # Once sent it is not typed any more; and what another made of the very field is said before it is overwritten.
    assert _patched(model, made["id"], weights={"fp16": 20}) == 200
    expect(weight).to_have_value("20", timeout=WAIT_MS)
    coverage.fill("40")
    assert _patched(model, made["id"], coverage=0.9) == 200
    expect(page.get_by_role("alert").filter(has_text="Coverage, in % became 90 meanwhile")).to_be_visible(
        timeout=WAIT_MS
    )
    expect(coverage).to_have_value("40")


def _patched(service: Service, experiment_id: str, **changes: object) -> int:
    url = f"/api/v1/models/model/experiments/{experiment_id}"
    return service.http.patch(url, json=changes, headers={"If-Match": "*"}).status_code


def test_the_system_shows_what_is_loaded_and_how_busy_it_is(window: Window, model: Service, users: Users) -> None:
    # A gateway shows what it has served since it was started.
    assert model.processes["serve"].end() == 0
    model.start()
    page = window.open("/system")
    expect(page.get_by_text("Nothing is loaded")).to_be_visible()
    is_good(window, "system-idle")
    users.start()
    row = page.get_by_role("row", name=re.compile("^model"))
    expect(row).to_contain_text("original", timeout=WAIT_MS)
    expect(row).to_contain_text(re.compile(r"[\d.]+ MB"))
    link = row.get_by_role("link")
    link.focus()
    expect(page.get_by_role("heading", name="Machine")).to_be_visible()
    expect(page.locator("#rates canvas")).to_be_visible(timeout=WAIT_MS)
    page.locator("#rates summary").click()
    link.focus()
    before = row.inner_text()
    expect(row).not_to_have_text(before, timeout=WAIT_MS)
    # What is looked at anew keeps the focus, and what was opened.
    expect(link).to_be_focused()
    expect(page.locator("#rates table")).to_be_visible()
    is_good(window, "system-busy")
