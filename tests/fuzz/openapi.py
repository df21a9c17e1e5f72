"""The whole OpenAPI document, asked of a gateway that has something to tell: by schemathesis.

What a request may name is told by a configuration that is made for each run: the names and ids that are really there.
What deletes and unloads is given things of its own, so that the others go on answering.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from onnx import ModelProto, TensorProto, helper

from tests import graphs
from tests.e2e.conftest import npz
from tests.e2e.service import Service, eventually

Names = Mapping[str, Sequence[str]]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "missing_required_header",
)

#: How often a parameter is something that there is.
_KNOWN = 0.8
_EXPERIMENTS = "/api/v1/models/resnet20/experiments"
#: What these do to a thing ends what others may ask of it.
_ENDING = ("delete_model", "delete_variant", "delete_dataset", "repository_unload")
#: These last as long as what they follow.
_FOLLOWING = ("follow_job", "follow_experiment")
_ARMS = [{"variant": "original", "weight": 1, "control": True}, {"variant": "int8", "weight": 1}]


@dataclass(frozen=True)
class Furnished:
    """A gateway at `url`, a `key` that may do everything, and what there is, by parameter of the path.

    `spares` is the same for what may go, and `ended` for what nothing happens to any more.
    """

    url: str
    key: str
    names: Names
    spares: Names
    ended: Names

    def still_answers(self) -> bool:
        """Whether the key is good for something still: all answers after it was revoked would be 401, and fine."""
        return httpx.get(f"{self.url}/api/v1/models", headers={"X-API-Key": self.key}).status_code == 200


@contextmanager
def furnished(folder: Path) -> Iterator[Furnished]:
    """A gateway with models, variants, datasets, jobs, experiments and keys; no worker, so that jobs wait for ever."""
    service = Service(folder / "home", {"OCTET_LOG_LEVEL": "warning"}, apart=True)
    service.migrate()
    service.start()
    try:
        yield _furnish(service)
    finally:
        service.stop()


def _furnish(service: Service) -> Furnished:
    """What the document's examples name is there by these names, small as it is."""
    samples = graphs.labelled_samples(samples=64, shape=(3, 32, 32), name="input")
    service.upload_dataset(npz(**samples), name="cifar10")
    service.upload_dataset(npz(**graphs.labelled_samples()), name="my-samples")
    service.upload_model(_pictures().SerializeToString(), name="resnet20")
    linear = graphs.linear_classifier().SerializeToString()
    service.upload_model(linear, name="my-model", labels='["cat", "dog", "eel", "fox"]')
    lenient = {"max_accuracy_drop": 1.0, "evaluation_samples": 16}
    made = [
        service.submit(model="resnet20", method="int8", dataset="cifar10", options=lenient),
        service.submit(model="my-model", method="dynamic", variant="my-int8", options=lenient),
    ]
    for job in made:
        assert service.finished(job)["state"] == "succeeded", service.job(job)
    service.processes.pop("worker").end()
    waiting = [service.submit(model="my-model", method="fp16", variant=f"later-{number}") for number in range(4)]
    running, ended, *drafts = [_experiment(service, number) for number in range(4)]
    for action in (f"{ended}/start", f"{ended}/stop", f"{running}/start"):
        done = service.http.post(f"{_EXPERIMENTS}/{action}", json={})
        assert done.status_code == 200, done.text
    key = _first_key(service)
    spare = service.http.post("/api/v1/keys", json={"name": "spare", "scope": "read"}, headers=key).json()
    return Furnished(
        service.url,
        key["X-API-Key"],
        {
            "model": ["resnet20"],
            "version": ["original", "int8", "1", "2"],
            "variant": ["original", "int8", "1", "2"],
            "dataset": ["cifar10"],
            "job_id": [*made, *waiting],
            "experiment_id": [running, ended, *drafts],
            "key_id": [spare["id"]],
        },
        {"model": ["my-model"], "variant": ["my-int8"], "dataset": ["my-samples"]},
        {"job_id": made, "experiment_id": [ended]},
    )


def _pictures() -> ModelProto:
    """A model that takes what the examples send: `input` FLOAT[batch, 3, 32, 32]."""
    model = graphs.convolution()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32]))
    model.graph.node[0].input[0] = "input"
    return model


def _experiment(service: Service, number: int) -> str:
    wanted = {"name": f"live-{number}", "arms": _ARMS}
    created = service.http.post(_EXPERIMENTS, json=wanted)
    assert created.status_code == 201, created.text
    return str(created.json()["id"])


def _first_key(service: Service) -> dict[str, str]:
    """The header with a key; nothing answers without one from then on."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "keys", "create", "fuzz", "--scope", "admin"],
        env=os.environ | service.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    eventually(lambda: service.http.get("/api/v1/models").status_code == 401, what="the first key")
    (key,) = re.findall(r"octet_\S+", done.stdout)
    return {"X-API-Key": key}


def explore(there: Furnished, folder: Path, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Ask everything, in so far as `options` (those of `schemathesis run`) allow; reports are written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "schemathesis.toml"
    configuration.write_text(_configuration(there))
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(configuration), "run"),
        *(f"{there.url}/openapi.json", "--checks", ",".join(CHECKS), "--no-color", *options),
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def explored(folder: Path, seconds: int) -> bool:
    """Ask for so long, print what came of it, and return whether that was nothing."""
    with TemporaryDirectory(prefix="octet-fuzz-") as home, furnished(Path(home)) as there:
        done = explore(there, folder, ["--max-time", str(seconds), "--max-examples", "1000", "--continue-on-failure"])
        lasted = there.still_answers()
    report = folder / "report.txt"
    report.write_text(done.stdout + done.stderr)
    summary = done.stdout.partition("= SUMMARY =")[2].strip("=\n ")
    print(f"{summary or done.stdout + done.stderr}\nall of it: {report}", flush=True)
    if not lasted:
        print("the key was lost on the way: what came after it says nothing", flush=True)
    return done.returncode == 0 and lasted


def _configuration(there: Furnished) -> str:
    """A file of TOML, in which JSON's strings and lists are what they are in JSON."""
    lines = [
        "request-timeout = 30",
        "max-stream-events = 1",
        "output.sanitization.enabled = false",
        # What is documented so: not offered, not now, and no space left.
        'checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501, 503, 507]',
        f"auth.openapi.apiKey = {{ api_key = {json.dumps(there.key)} }}",
        f"auth.openapi.bearer = {{ bearer = {json.dumps(there.key)} }}",
    ]
    kinds = {"there": there.names, "spare": there.spares, "ended": there.ended}
    for kind, names in kinds.items():
        lines += [f"dictionaries.{kind}-{each}.values = {json.dumps(known)}" for each, known in names.items()]
    lines += ["[parameters]", *_bindings("there", there.names)]
    for kind, operations in (("spare", _ENDING), ("ended", _FOLLOWING)):
        lines += ["[[operations]]", f"include-operation-id = {json.dumps(operations)}"]
        # What is followed tells what it has to tell at once, or nothing for long.
        lines += ["request-timeout = 3"] if kind == "ended" else []
        lines += ["[operations.parameters]", *_bindings(kind, kinds[kind])]
    return "\n".join(lines) + "\n"


def _bindings(kind: str, names: Names) -> list[str]:
    return [f'"path.{each}" = {{ dictionary = "{kind}-{each}", probability = {_KNOWN} }}' for each in names]
