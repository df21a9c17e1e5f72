"""Compare `int8` with the original on live traffic: users ask, some of their answers are reported as right, and the
experiment says what it found.

A service that has keys takes one of scope write: OCTET_API_KEY names it, as it does for `octet`.

Needs a running Octet with the example model (`make demo`), NumPy, and `pip install 'tritonclient[http]' httpx`.
"""

import argparse
import os
import random
import time
from pathlib import Path

import httpx
import numpy as np
import tritonclient.http as triton

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="127.0.0.1:8000", help="host and port of the gateway")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--variant", default="int8", help="what is compared with the original")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--users", type=int, default=1000)
    wanted = parser.parse_args()

    with httpx.Client(base_url=f"http://{wanted.url}", timeout=60, headers=key()) as http:
        experiment = started(http, wanted.model, wanted.variant)
        try:
            ask(http, wanted)
            time.sleep(1.5)  # counts are kept within a second
            show(http.get(experiment).raise_for_status().json()["results"])
        finally:
            http.post(f"{experiment}/stop", json={"reason": "the example ended"})


def key() -> dict[str, str]:
    """The header that shows the key, if there is one."""
    given = os.environ.get("OCTET_API_KEY")
    return {"X-API-Key": given} if given else {}


def started(http: httpx.Client, model: str, variant: str) -> str:
    """The address of an experiment that runs: half of the users each, and every tenth request answered by both."""
    definition = {
        "name": "example",
        "unit": {"from": ["param:unit_id"], "on_missing": "control"},
        "arms": [{"variant": "original", "weight": 50, "control": True}, {"variant": variant, "weight": 50}],
        "shadow": [{"variant": variant, "sample": 0.1}],
        "guardrails": [{"metric": "error_rate", "margin_abs": 0.01}, {"metric": "outcome:right", "margin_abs": 0.05}],
    }
    created = http.post(f"/api/v1/models/{model}/experiments", json=definition).raise_for_status()
    address = str(created.headers["Location"])
    http.post(f"{address}/start").raise_for_status()
    return address


def ask(http: httpx.Client, wanted: argparse.Namespace) -> None:
    """Users ask about images, and report whether the answer was right."""
    with np.load(HERE / "cifar10_512.npz") as samples:
        images, labels = samples["input"], samples["label"]
    users = random.Random(0)
    outcomes: list[dict[str, object]] = []
    with triton.InferenceServerClient(wanted.url) as client:
        for number in range(wanted.requests):
            index, request_id = number % len(images), f"example-{random.getrandbits(48):012x}"
            tensor = triton.InferInput("input", [1, *images[index].shape], "FP32")
            tensor.set_data_from_numpy(images[index][np.newaxis])
            user = {"unit_id": f"user-{users.randrange(wanted.users)}"}
            answer = client.infer(
                wanted.model, [tensor], parameters=user, headers={"X-Request-Id": request_id, **key()}
            )
            right = int(answer.as_numpy("logits")[0].argmax()) == labels[index]
            outcomes.append({"request_id": request_id, "metric": "right", "value": float(right)})
            # Of requests that both have answered, the label says who of the two was right.
            outcomes.append({"request_id": request_id, "metric": "label", "value": int(labels[index])})
            if len(outcomes) == 500 or number == wanted.requests - 1:
                http.post("/api/v1/outcomes", json=outcomes).raise_for_status()
                outcomes = []


def show(results: dict) -> None:
    for arm in results["arms"]:
        right = arm["outcomes"].get("right", {}).get("mean", {}).get("estimate")
        figures = f"{arm['requests']} requests of {arm['units']} users, {arm['errors']} errors"
        print(f"{arm['variant']:>10}: {figures}" + (f", {right:.1%} right" if right is not None else ""))
        if arm["verdict"] is not None:
            print(f"{'':>12}{arm['verdict']['word']}: {arm['verdict']['sentence']}")
    for shadow in results["shadows"]:
        print(f"{'pairs':>10}: {shadow['pairs']}, of which {shadow['disagreements']} disagree")
        right = shadow["right_answers"]
        if right is not None:
            alone = f"{right['variant_only']} right by {shadow['variant']} alone"
            print(f"{'':>12}of {right['labelled']} labelled, {alone}, {right['control_only']} by the original alone")


if __name__ == "__main__":
    main()
