"""Trying two variants: the page, and the samples that it offers."""

import base64
import json

import numpy as np
from fastapi.testclient import TestClient

from tests import graphs
from tests.app.conftest import npz_bytes, upload_dataset, upload_model
from tests.app.web.markup import Page


def test_a_model_without_variants_is_tried_against_itself(client: TestClient) -> None:
    upload_model(client)
    shown = Page(client.get("/models/linear/try").text)
    assert "There is one variant only" in shown.text
    assert [value for name, value in shown.attributes if name == "data-fill"] == ["random", "zeros"]


def test_an_input_that_may_be_an_image_takes_one(client: TestClient) -> None:
    upload_model(client, graphs.convolution().SerializeToString(), name="image")
    upload_model(client, name="linear")
    assert "data-image" in dict(Page(client.get("/models/image/try").text).attributes)
    assert "data-image" not in dict(Page(client.get("/models/linear/try").text).attributes)


def test_names_of_classes_do_not_end_the_script_that_holds_them(client: TestClient) -> None:
    evil = "</script><b>"
    upload_model(client, labels=json.dumps([evil, "dog", "eel", "fox"]))
    answer = client.get("/models/linear/try")
    assert evil not in answer.text
    assert "b" not in Page(answer.text).tags


def test_a_sample_of_a_fitting_dataset_comes_as_bytes(client: TestClient) -> None:
    arrays = graphs.labelled_samples()
    upload_model(client)
    upload_dataset(client, npz_bytes(**arrays))
    upload_dataset(client, npz_bytes(other=np.zeros((3, 2), np.float32)), name="unlike")
    page = client.get("/models/linear/try").text
    assert 'value="samples"' in page
    assert 'value="unlike"' not in page
    answer = client.get("/models/linear/try/sample", params={"dataset": "samples", "index": 2}).json()
    name = next(each for each in arrays if each != "label")
    sent = answer["arrays"][name]
    assert sent["datatype"] == "FP32"
    values = np.frombuffer(base64.b64decode(sent["data"]), "<f4").reshape(sent["shape"])
    assert np.array_equal(values, arrays[name][2:3])
    assert answer["label"] == arrays["label"][2]


def test_a_sample_beyond_the_last_is_refused_in_words(client: TestClient) -> None:
    upload_model(client)
    upload_dataset(client)
    answer = client.get("/models/linear/try/sample", params={"dataset": "samples", "index": 10**6})
    assert answer.status_code in range(400, 500)
    assert "there is no 1000000" in answer.json()["detail"]
