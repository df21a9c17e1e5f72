"""Ask two variants of `resnet20` about the same images, and compare their answers and their times.

Needs a running Octet with the example model (`make demo`), NumPy, and `pip install 'tritonclient[http]'`.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import tritonclient.http as triton

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="127.0.0.1:8000", help="host and port of the gateway")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--variants", nargs="+", default=["original", "int8"], help="labels or integer versions")
    parser.add_argument("--key", default=os.environ.get("OCTET_API_KEY"), help="for a service with keys")
    parser.add_argument("--images", type=int, default=100, help="how many are sent, one at a time")
    wanted = parser.parse_args()

    names = json.loads((HERE / "cifar10_labels.json").read_text())
    with np.load(HERE / "cifar10_512.npz") as samples:
        images, labels = samples["input"][: wanted.images], samples["label"][: wanted.images]
    with triton.InferenceServerClient(wanted.url) as client:
        for variant in wanted.variants:
            classes, milliseconds = classify(client, wanted.model, variant, images, wanted.key)
            print(
                f"{variant:>10}: {np.mean(classes == labels):.1%} of {len(images)} right,"
                f" median {np.median(milliseconds):.2f} ms a request,"
                f" the first is '{names[classes[0]]}' (label: '{names[labels[0]]}')"
            )


def classify(
    client: triton.InferenceServerClient, model: str, variant: str, images: np.ndarray, key: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """The top-1 class of each of `images`, `(samples, 3, 32, 32)` float32, and how long each request took in ms."""
    headers = {"Authorization": f"Bearer {key}"} if key else None
    classes, milliseconds = [], []
    for image in images:
        tensor = triton.InferInput("input", [1, *image.shape], "FP32")
        tensor.set_data_from_numpy(image[np.newaxis])
        begin = time.perf_counter()
        answer = client.infer(model, [tensor], model_version=variant, headers=headers)
        milliseconds.append((time.perf_counter() - begin) * 1000)
        classes.append(int(answer.as_numpy("logits")[0].argmax()))
    return np.array(classes), np.array(milliseconds)


if __name__ == "__main__":
    main()
