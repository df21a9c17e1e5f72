"""A client as it should be: it asks until it is answered, in such a way that asking twice does nothing twice.

It remembers what it was promised, and can tell afterwards which of that was not kept.
"""

import random
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

#: What a service that is being restarted, or whose database is, may answer.
PATIENCE = frozenset({503})

_GIVE_UP_AFTER_SECONDS = 120


class Unanswered(AssertionError):
    """The service was not to be reached for longer than any fault lasts."""


class Client:
    """Of several gateways, at `urls`, it asks the next where one does not answer."""

    def __init__(self, urls: Sequence[str], name: str, *, stop: Callable[[], bool] = lambda: False) -> None:
        self.name = name
        self.answers: Counter[int] = Counter()
        self.faults: list[str] = []
        self.models: dict[str, str] = {}
        self.datasets: dict[str, str] = {}
        self.jobs: dict[str, str] = {}
        self.outcomes: dict[str, list[float]] = defaultdict(list)
        #: Outcomes that were found counted before their model was deleted.
        self.held = 0
        self.defaults: dict[str, int] = {}
        self.promoted: dict[str, str] = {}
        self._urls = deque(urls)
        self._stop = stop
        self._random = random.Random(name)
        self._http = httpx.Client(timeout=60)

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The first answer that is not "later"; whatever else a server should not say is among `faults`."""
        deadline = time.monotonic() + _GIVE_UP_AFTER_SECONDS
        while True:
            try:
                answer = self._http.request(method, self._urls[0] + path, **options)
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise Unanswered(f"{method} {path}: {error}") from error
            else:
                self.answers[answer.status_code] += 1
                if answer.status_code not in PATIENCE:
                    if answer.status_code >= 500:
                        self.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
                    return answer
                if time.monotonic() > deadline:
                    raise Unanswered(f"{method} {path}: {answer.text[:300]}")
            self._urls.rotate()
            time.sleep(self._random.uniform(0.05, 0.3))

    def upload_model(self, name: str, content: bytes) -> None:
        answer = self.ask("POST", "/api/v1/models", files={"file": ("model.onnx", content)}, data={"name": name})
        if self._expect(answer, 200, 201):
            self.models[name] = answer.json()["digest"]

    def upload_dataset(self, name: str, content: bytes) -> None:
        answer = self.ask("POST", "/api/v1/datasets", files={"file": ("samples.npz", content)}, data={"name": name})
        if self._expect(answer, 200, 201):
            self.datasets[name] = answer.json()["digest"]

    def submit(self, model: str, method: str, **wanted: Any) -> str | None:
        key = uuid.uuid4().hex
        body = {"model": model, "method": method, **wanted}
        answer = self.ask("POST", "/api/v1/jobs", json=body, headers={"Idempotency-Key": key})
        if not self._expect(answer, 200, 202):
            return None
        job_id = str(answer.json()["id"])
        self.jobs[job_id] = f"{model}@{answer.json()['variant']}"
        return job_id

    def wait_for(self, job_id: str) -> dict[str, Any]:
        """The job once it has ended, or when the client is to stop."""
        while True:
            job: dict[str, Any] = self.ask("GET", f"/api/v1/jobs/{job_id}").json()
            if job["state"] in {"succeeded", "failed", "cancelled"} or self._stop():
                return job
            time.sleep(0.2)

    def report(self, address: str, unit: str, value: float) -> None:
        """An outcome `clicked` of a unit, one for each, of the experiment at `address`."""
        outcome = {"unit": unit, "metric": "clicked", "value": value, "experiment": address.rpartition("/")[2]}
        if self._expect(self.ask("POST", "/api/v1/outcomes", json=[outcome]), 200):
            self.outcomes[address].append(value)

    def make_default(self, model: str, variant: str) -> None:
        answer = self.ask("PUT", f"/api/v1/models/{model}/default", json={"variant": variant, "override": True})
        if self._expect(answer, 200):
            self.defaults[model] = answer.json()["version"]

    def promote(self, address: str, variant: str) -> None:
        key = uuid.uuid4().hex
        answer = self.ask("POST", f"{address}/promote", json={"variant": variant}, headers={"Idempotency-Key": key})
        if self._expect(answer, 200):
            self.promoted[address] = variant

    def start_experiment(self, model: str, control: str, other: str) -> str | None:
        """Its address. Units are named by the parameter `unit_id`."""
        arms = [{"variant": control, "weight": 50, "control": True}, {"variant": other, "weight": 50}]
        unit = {"from": ["param:unit_id"], "on_missing": "control"}
        wanted = {"name": f"of-{model}"[:63], "arms": arms, "unit": unit}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        made = self.ask("POST", f"/api/v1/models/{model}/experiments", json=wanted, headers=key)
        if not self._expect(made, 200, 201):
            return None
        address = made.headers["Location"]
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return address if self._expect(self.ask("POST", f"{address}/start", headers=key), 200) else None

    def infer(self, model: str, inputs: list[Mapping[str, Any]], **parameters: Any) -> httpx.Response:
        answer = self.ask("POST", f"/v2/models/{model}/infer", json={"inputs": inputs, "parameters": parameters})
        self._expect(answer, 200)
        return answer

    def forget_model(self, name: str) -> None:
        """Delete the model, once what was promised of it was found kept."""
        self.faults += self.broken_promises(of=name)
        answer = self.ask("DELETE", f"/api/v1/models/{name}")
        if self._expect(answer, 204, 404):
            self.models.pop(name, None)
            self.defaults.pop(name, None)
            self.jobs = {job_id: what for job_id, what in self.jobs.items() if what.split("@")[0] != name}
            self.promoted = {each: what for each, what in self.promoted.items() if _model_of(each) != name}
            for address in [each for each in self.outcomes if _model_of(each) == name]:
                self.held += len(self.outcomes.pop(address))

    def _expect(self, answer: httpx.Response, *statuses: int) -> bool:
        if answer.status_code in statuses:
            return True
        if answer.status_code < 500:
            self.faults.append(
                f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
            )
        return False

    def broken_promises(self, of: str | None = None) -> Iterator[str]:
        """What was acknowledged, `of` a model or of all, and is not so, or is so twice."""
        for name, digest in self.models.items():
            if of not in (None, name):
                continue
            model = self.ask("GET", f"/api/v1/models/{name}").json()
            if (model.get("digest"), model.get("revision")) != (digest, 1):
                yield f"model {name}: {model}"
        for name, digest in self.datasets.items():
            if of is None and self.ask("GET", f"/api/v1/datasets/{name}").json().get("digest") != digest:
                yield f"dataset {name} is gone or another"
        for job_id, what in self.jobs.items():
            if of not in (None, what.split("@")[0]):
                continue
            job = self.ask("GET", f"/api/v1/jobs/{job_id}").json()
            if job.get("state") != "succeeded" or f"{job['model']}@{job['variant']}" != what:
                yield f"job {job_id} for {what}: {job}"
        for name, version in self.defaults.items():
            if of not in (None, name):
                continue
            default = self.ask("GET", f"/api/v1/models/{name}").json().get("default_version")
            if default != version:
                yield f"the default of {name} is {default}, not {version}"
        for address, values in self.outcomes.items():
            if of not in (None, _model_of(address)):
                continue
            arms = self.ask("GET", address).json()["results"]["arms"]
            clicked = [arm["outcomes"]["clicked"] for arm in arms if "clicked" in arm["outcomes"]]
            count, total = (
                sum(each["count"] for each in clicked),
                sum(each["count"] * each["mean"]["estimate"] for each in clicked),
            )
            if (count, round(total)) != (len(values), sum(values)):
                yield f"{address}: {count} outcomes that sum to {total}, of {len(values)} that sum to {sum(values)}"
        for address, variant in self.promoted.items():
            if of not in (None, _model_of(address)):
                continue
            timeline = self.ask("GET", f"{address}/timeline").json()
            found = [event["detail"]["variant"] for event in timeline if event["kind"] == "promoted"]
            if found != [variant]:
                yield f"{address}: promoted {found}, not {variant}"


def _model_of(address: str) -> str:
    """Of an experiment's address, `/api/v1/models/{model}/experiments/{id}`."""
    return address.split("/")[4]
