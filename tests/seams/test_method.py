"""A method is one module and one row: it is offered by API, form and command line, and jobs do it."""

import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.contracts import methods
from app.contracts.methods import Method
from app.web.report.repeat import commands
from tests.app.web.markup import Page
from tests.seams import rounded
from tests.seams.octet import Octet

_ROW = Method(
    "rounded",
    "weights of a few decimals",
    rounded.RoundedOptions,
    reserves=("tuning_samples",),
    long_stage="round",
    promise=9,
)


@pytest.fixture
def one_more(octet: Octet, monkeypatch: pytest.MonkeyPatch) -> Octet:
    for table in (methods.METHODS, methods.OFFERED):
        monkeypatch.setitem(table, "rounded", _ROW)
    monkeypatch.setitem(sys.modules, "worker.methods.rounded", rounded)
    return octet


def test_the_form_offers_it_with_its_options(one_more: Octet) -> None:
    shown = Page(one_more.client.get("/models/linear/quantize").text)
    assert "weights of a few decimals" in shown.text
    assert "Decimals that a weight keeps." in shown.text
    assert ("value", "rounded") in shown.attributes
    chosen = one_more.client.get("/models/linear/quantize").text
    assert 'value="rounded" checked' in chosen
    assert 'value="rounded" data-join=","' in one_more.client.get("/").text


def test_the_api_checks_its_options(one_more: Octet) -> None:
    job = {"model": "linear", "method": "rounded", "options": {"decimals": 7}}
    answer = one_more.client.post("/api/v1/jobs", json=job)
    assert answer.status_code == 422
    assert "option 'decimals' of method 'rounded'" in answer.json()["detail"]
    unknown = one_more.client.post("/api/v1/jobs", json=job | {"method": "round"}).json()["detail"]
    assert "rounded" in unknown


def test_a_job_from_the_command_line_makes_and_judges_its_variant(one_more: Octet) -> None:
    option = ("--option", "decimals=1")
    one_more.command("quantize", "linear", "rounded", "--dataset", "samples", *option, "--no-wait")
    one_more.work()
    (job,) = one_more.client.get("/api/v1/jobs").json()
    assert (job["state"], job["error"]) == ("succeeded", None)

    view = one_more.client.get("/api/v1/models/linear/variants/rounded/report").json()
    assert view["report"]["method"]["decimals"] == 1
    # Of 128 samples, 64 may be kept for the method at most.
    assert view["variant"]["samples"] == 64
    assert view["report"]["dataset"]["split"]["calibration_samples"] == 64
    assert "rounded" in one_more.command("compare", "linear")
    assert "--option decimals=1" in commands("linear", view["variant"], view["report"]).octet

    artifact = one_more.client.get("/api/v1/models/linear/variants/rounded/artifact").content
    for weight in onnx.load_from_string(artifact).graph.initializer:
        values = numpy_helper.to_array(weight)
        np.testing.assert_array_equal(values, values.round(1))


def test_its_own_stage_takes_most_of_the_job(one_more: Octet) -> None:
    one_more.client.post("/api/v1/jobs", json={"model": "linear", "method": "rounded"})
    stages = {message["stage"]: message["progress"] for message in one_more.work() if "stage" in message}
    assert list(stages) == ["prepare", "round", "gate", "evaluate"]
    assert stages["gate"] - stages["round"] == pytest.approx(0.7)
