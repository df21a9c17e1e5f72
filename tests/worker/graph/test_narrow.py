"""Activations of fewer than 8 bits."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.worker import models
from tests.worker.runtime import cosine, executed_operators, run


def _integers(artifact: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """What every QuantizeLinear of the artifact, and the Clip behind it, comes to."""
    model = onnx.load(artifact)
    readers = {name: node for node in model.graph.node for name in node.input}
    written = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            reader = readers[node.output[0]]
            written.append(reader.output[0] if reader.op_type == "Clip" else node.output[0])
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in written)
    exposed = artifact.with_name("integers.onnx")
    exposed.write_bytes(model.SerializeToString())
    return dict(zip(written, run(exposed, {"x": x}), strict=True))


@pytest.mark.parametrize(("bits", "cpu"), [(6, models.VNNI), (4, models.VNNI), (6, models.ARM)])
def test_activations_take_as_many_values_as_their_bits_have(tmp_path: Path, bits: int, cpu: models.Cpu) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(64, 3, 8, 8)
    made = models.make("int8", source, {"x": x}, calibrate=64, activation_bits=bits, cpu=cpu)
    # Inputs beyond the calibrated range are clipped to it as well.
    for name, integers in _integers(made.artifact, 4.0 * x).items():
        low = np.iinfo(integers.dtype).min
        assert low <= integers.min() <= integers.max() <= low + 2**bits - 1, name
    assert cosine(run(source, {"x": x})[0], run(made.artifact, {"x": x})[0]) > 0.9


def test_kernels_stay_integer(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    made = models.make("int8", source, {"x": models.normal(32, 3, 8, 8)}, activation_bits=6)
    operators = executed_operators(made.artifact)
    assert operators["QLinearConv"] == 2
    assert not {"Conv", "FusedConv", "Gemm"} & operators.keys()


def test_fewer_bits_err_more(tmp_path: Path) -> None:
    source = models.write(models.classifier(), tmp_path)
    x = models.normal(64, 3, 8, 8)
    expected = run(source, {"x": x})[0]
    errors = []
    for bits in (8, 6, 4):
        made = models.make("int8", source, {"x": x}, calibrate=64, activation_bits=bits)
        errors.append(float(np.square(run(made.artifact, {"x": x})[0] - expected).mean()))
    assert errors[0] < errors[1] < errors[2]
    # Two bits fewer are steps four times as wide: 12 dB, of which weights and clipping leave some.
    assert errors[1] > 4 * errors[0]
