"""Convolutions and pools of whatever geometry."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.servers import WITHOUT_TORCH
from tests.worker.training.cases.case import Case, normal

torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)

from worker.training.onnx_to_torch import OnnxModule, tensors  # noqa: E402

_ON_PADS = ({"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"})


@st.composite
def _geometries(draw: Any, *, dilated: bool) -> tuple[tuple[int, ...], list[int], dict[str, Any]]:
    """(extents of an image, kernel, attributes) of one to three spatial axes."""
    axes = draw(st.integers(1, 3))

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    image, kernel = each(1, 9), each(1, 4)
    attributes: dict[str, Any] = {"strides": each(1, 3)}
    if dilated:
        attributes["dilations"] = each(1, 3)
    attributes |= draw(st.sampled_from([{"pads": [*each(0, 3), *each(0, 3)]}, *_ON_PADS]))
    # Of a window that does not fit in, onnxruntime's pools compute a part.
    around = attributes.get("pads", [0] * 2 * axes)
    dilations = attributes.get("dilations", [1] * axes)
    assume(
        all(
            extent + around[axis] + around[axis + axes] > dilation * (width - 1)
            for axis, (extent, width, dilation) in enumerate(zip(image, kernel, dilations, strict=True))
        )
    )
    return tuple(image), kernel, attributes


def _assert_same(case: Case, opset: int) -> None:
    """Where onnxruntime refuses a geometry there is nothing to compare."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(
            case.model(opset).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (expected,) = session.run(None, case.feeds())
    except Exception:  # noqa: BLE001 - the runtime's many classes of refusal
        assume(False)
    assume(expected.size > 0)
    (computed,) = OnnxModule(case.model(opset))(tensors(case.feeds()))
    np.testing.assert_allclose(computed.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@given(_geometries(dilated=True), st.sampled_from([1, 2]))
def test_convolutions_of_any_geometry(geometry: tuple[Any, ...], group: int) -> None:
    image, kernel, attributes = geometry
    inputs = [normal(2, 2, *image), normal(4, 2 // group, *kernel, seed=1), normal(4, seed=2)]
    _assert_same(Case("Conv", inputs, attributes | {"group": group}, constant=frozenset({1, 2})), 17)


@given(_geometries(dilated=True), st.integers(0, 1))
def test_transposed_convolutions_of_any_geometry(geometry: tuple[Any, ...], output_padding: int) -> None:
    image, kernel, attributes = geometry
    attributes = attributes | {"output_padding": [output_padding] * len(image)}
    inputs = [normal(2, 2, *image), normal(2, 3, *kernel, seed=1), normal(3, seed=2)]
    _assert_same(Case("ConvTranspose", inputs, attributes, constant=frozenset({1, 2})), 17)


def _is_padded_as_onnx_says(kernel: list[int], attributes: dict[str, Any]) -> bool:
    """What is not is refused."""
    dense = all(s <= k + 1 for s, k in zip(attributes["strides"], kernel, strict=True))
    return not attributes.get("auto_pad", "").startswith("SAME") or (
        dense and {*attributes.get("dilations", [])} <= {1}
    )


@given(_geometries(dilated=True), st.integers(0, 1))
def test_max_pools_of_any_geometry(geometry: tuple[Any, ...], ceil_mode: int) -> None:
    image, kernel, attributes = geometry
    assume(_is_padded_as_onnx_says(kernel, attributes))
    attributes = attributes | {"kernel_shape": kernel, "ceil_mode": ceil_mode}
    _assert_same(Case("MaxPool", [normal(2, 3, *image)], attributes), 17)


@given(_geometries(dilated=False), st.integers(0, 1), st.integers(0, 1), st.sampled_from([17, 19]))
def test_average_pools_of_any_geometry(
    geometry: tuple[Any, ...], ceil_mode: int, count_include_pad: int, opset: int
) -> None:
    image, kernel, attributes = geometry
    assume(_is_padded_as_onnx_says(kernel, attributes))
    attributes = attributes | {
        "kernel_shape": kernel, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad,
    }  # fmt: skip
    _assert_same(Case("AveragePool", [normal(2, 3, *image)], attributes), opset)
