"""Asks two variants about the same images: `pip install 'tritonclient[http]'`, then `python examples/client.py`.

Needs a running service with the example's variants: `make demo`.
"""

import json
from pathlib import Path

import numpy as np
import tritonclient.http as triton

HERE = Path(__file__).parent
VARIANTS = ("original", "int8")


def main() -> None:
    samples = np.load(HERE / "cifar10_512.npz")
    names = json.loads((HERE / "cifar10_labels.json").read_text())
    images, labels = samples["input"][:8], samples["label"][:8]
    client = triton.InferenceServerClient("127.0.0.1:8000")
    tensor = triton.InferInput("input", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    answers = {
        variant: client.infer("resnet20", [tensor], model_version=variant).as_numpy("logits").argmax(axis=1)
        for variant in VARIANTS
    }
    print("label       " + "  ".join(f"{variant:<10}" for variant in VARIANTS))
    for row, label in enumerate(labels):
        print(f"{names[label]:<10}  " + "  ".join(f"{names[answers[variant][row]]:<10}" for variant in VARIANTS))


if __name__ == "__main__":
    main()
