"""A request that the model of `octet demo` answers: a picture of a ship, in numbers."""

from pathlib import Path
from typing import Any

import numpy as np

MODEL, VARIANT = "resnet20", "int8"

#: From the test set of CIFAR-10: uint8 (3, 32, 32), RGB.
_PICTURE = Path(__file__).with_name("example.npy")
_MEAN, _DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def request() -> dict[str, Any]:
    """The body of an inference: the picture as the model expects it, and the three likeliest classes as its answer."""
    picture = np.load(_PICTURE) / 255
    normalised = (picture - np.reshape(_MEAN, (3, 1, 1))) / np.reshape(_DEVIATION, (3, 1, 1))
    return {
        "id": "a-ship",
        "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
        "inputs": [
            {
                "name": "input",
                "datatype": "FP32",
                "shape": [1, *normalised.shape],
                "data": normalised.round(2).ravel().tolist(),
            }
        ],
    }
