"""The pages of experiments."""

from fastapi.testclient import TestClient

from app.registry import Database, experiments
from app.settings import Settings
from tests.app.conftest import upload_model
from tests.app.live_experiment import ARMS, URL
from tests.app.web.counted import counted_experiment
from tests.app.web.markup import Page

EVIL = '"><script>alert(1)</script><b onclick=x>'


def sends(shown: Page) -> list[str]:
    return [value for name, value in shown.attributes if name == "data-api"]


def row(shown: Page, name: str) -> list[str]:
    return next(cells for table in shown.tables for cells in table.rows if cells and cells[0].strip().startswith(name))


def test_without_two_variants_there_is_nothing_to_begin_with(client: TestClient) -> None:
    assert "no model has two yet" in client.get("/experiments").text
    upload_model(client)
    assert "no model has two yet" in client.get("/experiments").text
    shown = Page(client.get("/models/linear/experiments").text)
    assert "takes two variants" in shown.text
    assert sends(shown) == []


def test_variants_that_may_serve_can_be_chosen_and_the_default_is_the_control(
    client: TestClient, registry: Database
) -> None:
    assert "/models/linear/experiments#new" in Page(client.get("/experiments").text).links
    shown = Page(client.get("/models/linear/experiments").text)
    assert [value for name, value in shown.attributes if name == "data-arm"] == ["1", "2"]
    assert f"POST {URL}" in sends(shown)
    assert "bad" not in [each.strip() for each in shown.text.split("\n")]


def test_a_running_experiment_is_shown_with_what_was_counted(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    experiment_id = counted_experiment(client, settings)
    shown = Page(client.get(f"/experiments/{experiment_id}").text)
    results = client.get(f"{URL}/{experiment_id}").json()["results"]
    for arm in results["arms"]:
        cells = row(shown, arm["variant"])
        assert cells[1:3] == [f"{arm['units']:,}", f"{arm['requests']:,}"]
        assert f"{arm['latency_ms']['p50']['estimate']:.2f} ms" in cells[4]
    said = results["arms"][1]["verdict"]
    assert said["word"] == "better"
    assert "int8: better" in shown.text
    assert said["sentence"].removeprefix("int8: ") in shown.text
    assert row(shown, "errors")[-1].strip() == "holds"
    assert row(shown, "p95")[-2] == "+50%"


def test_an_experiment_is_steered_by_its_state(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    experiment_id = counted_experiment(client, settings, requests=200)
    api = f"{URL}/{experiment_id}"

    def steered() -> set[str]:
        shown = Page(client.get(f"/experiments/{experiment_id}").text)
        return {value.rpartition("/")[2] for value in sends(shown) if value.startswith("POST")}

    assert steered() == {"pause", "promote", "rollback", "stop"}
    client.post(f"{api}/pause")
    assert steered() == {"start", "promote", "rollback", "stop"}
    assert client.post(f"{api}/promote", json={"variant": "int8"}).status_code == 200
    assert steered() == set()
    answer = client.get(f"/experiments/{experiment_id}")
    assert answer.headers["HX-Trigger"] == "ended"
    assert "sse-connect" not in dict(Page(answer.text).attributes)
    assert "int8 promoted to be the default" in answer.text


def test_changes_name_the_state_they_were_made_for_and_actions_a_key(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    experiment_id = counted_experiment(client, settings, requests=0)
    shown = Page(client.get(f"/experiments/{experiment_id}").text)
    assert f"PATCH {URL}/{experiment_id}" in sends(shown)
    etag = client.get(f"{URL}/{experiment_id}").headers["ETag"]
    assert ("data-if-match", etag) in shown.attributes
    keys = [value for name, value in shown.attributes if name == "data-idempotency-key"]
    assert len(keys) == len(set(keys)) == 4


def test_an_arm_that_broke_a_guardrail_is_worse(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    experiment_id = counted_experiment(client, settings, failing=0.2)
    shown = Page(client.get(f"/experiments/{experiment_id}").text)
    assert "int8: worse" in shown.text
    assert row(shown, "errors")[-1].strip() == "broken"


def test_markup_of_clients_is_text(client: TestClient, settings: Settings) -> None:
    upload_model(client)
    experiment_id = counted_experiment(
        client, settings, requests=100, guardrails=[{"metric": "outcome:x", "margin_abs": 0.1}], seed="a seed"
    )
    # No such name is taken any more, but it may have been kept.
    database = Database(settings.registry_url)
    with database.writing() as session:
        experiments.find(session, experiment_id).guardrails = [{"metric": f"outcome:{EVIL}", "margin_abs": 0.1}]
    database.close()
    client.post(f"{URL}/{experiment_id}/rollback", json={"reason": EVIL})
    shown = Page(client.get(f"/experiments/{experiment_id}").text)
    assert shown.text.count(EVIL) >= 2
    assert "b" not in shown.tags


def test_what_runs_elsewhere_is_listed_and_only_a_draft_can_be_made_beside_it(
    client: TestClient, settings: Settings
) -> None:
    upload_model(client)
    experiment_id = counted_experiment(client, settings, requests=10)
    client.post(URL, json={"name": "later", "arms": ARMS})
    for path in ("/experiments", "/models/linear/experiments"):
        shown = Page(client.get(path).text)
        assert f"/experiments/{experiment_id}" in shown.links
        assert any("running" in cells[2] or "running" in cells[1] for cells in shown.tables[0].rows)
    values = [value for name, value in shown.attributes if name == "value"]
    assert "draft" in values
    assert "start" not in values


def test_an_experiment_that_is_not_there_is_a_page(client: TestClient) -> None:
    answer = client.get("/experiments/none")
    assert answer.status_code == 404
    assert "text/html" in answer.headers["Content-Type"]
