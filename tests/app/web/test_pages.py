from fastapi.testclient import TestClient

from app.web.pages import ModelSection, render_index
from tests.app.conftest import upload_model


def test_the_front_page_shows_models_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    assert "No model yet" in client.get("/").text
    upload_model(client, name="linear")
    page = client.get("/")
    assert "linear" in page.text
    assert "/api/v1/models/linear/variants/1/artifact" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.text.replace("http-equiv", "")
    for asset in ("/static/octet.css", "/static/octet.svg"):
        assert asset in page.text
        assert client.get(asset).status_code == 200


def test_markup_in_names_is_text() -> None:
    page = render_index([ModelSection("<b>bold</b>", [])])
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page
