"""The types of layers, as each method leaves them."""

from pathlib import Path

import numpy as np
import pytest

from tests.worker import models
from tests.worker.models import ENGINE
from worker.evaluation.layers import compare_layers

_ARRAYS = {"x": models.normal(64, 3, 8, 8)}


@pytest.mark.parametrize(
    ("method", "convolution", "product", "addition"),
    [
        ("int8", ("uint8", "int8"), ("uint8", "int8"), ("uint8", None)),
        # A weight as small as that of the Gemm is not worth a Cast.
        ("fp16", ("fp32", "fp16"), ("fp32", "fp32"), ("fp32", None)),
        ("dynamic", ("fp32", "fp32"), ("uint8", "int8"), ("fp32", None)),
        ("int4", ("fp32", "fp32"), ("fp32", "int4"), ("fp32", None)),
    ],
)
def test_a_layer_has_the_types_that_its_method_gave_it(
    tmp_path: Path,
    method: str,
    convolution: tuple[str, str],
    product: tuple[str, str],
    addition: tuple[str, str | None],
) -> None:
    made = models.make(method, models.write(models.classifier(), tmp_path), _ARRAYS, calibrate=32)
    found = {
        layer.name: layer
        for layer in compare_layers(
            made.reference,
            made.artifact,
            _ARRAYS,
            np.arange(40, 56),
            engine=ENGINE,
            threads=1,
            progress=lambda share: None,
        )
    }
    assert (found["conv1"].activations, found["conv1"].weights) == convolution
    assert (found["add"].activations, found["add"].weights) == addition
    gemm = next(layer for name, layer in found.items() if name.startswith("gemm"))
    assert (gemm.activations, gemm.weights) == product
    assert found["conv1"].shape == [1, 8, 8, 8]
    assert gemm.shape == [1, 5]
