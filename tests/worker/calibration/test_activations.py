"""Histograms of activations, and the integers that these became."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.worker import models
from tests.worker.models import ENGINE
from worker.calibration import activations as module
from worker.calibration.activations import MOST_BINS, Activation, Quantizer, activations
from worker.calibration.histogram import Histogram
from worker.evaluation.layers import compare_layers
from worker.methods import Made

_ARRAYS = {"x": models.normal(64, 3, 8, 8)}
_QUANTIZER = Quantizer(0.1, 0, "uint8")


def _of(values: NDArray[np.float64], low: float, high: float) -> Activation:
    histogram = Histogram()
    histogram.add(values, values.min(), values.max())
    return module._activation("layer", "t", (low, high), _QUANTIZER, histogram)


@given(
    arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)),
    st.floats(-1e6, 0.0),
    st.floats(0.0, 1e6),
)
def test_few_bins_hold_all_values_between_their_extremes(values: NDArray[np.float64], low: float, high: float) -> None:
    found = _of(values, low, high)
    assert 1 <= len(found.shares) <= MOST_BINS
    assert sum(found.shares) == pytest.approx(1.0, rel=1e-2)
    assert found.first_edge <= values.min()
    assert found.first_edge + found.bin_width * len(found.shares) > values.max()
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert 0.0 <= found.clipped <= 1.0


def test_what_lies_beyond_the_range_is_clipped() -> None:
    values = np.linspace(-1.0, 1.0, 100_000)
    assert _of(values, -1.0, 1.0).clipped == 0.0
    assert _of(values, -0.5, 1.0).clipped == pytest.approx(0.25, abs=1e-3)
    assert _of(values, -0.5, 0.5).clipped == pytest.approx(0.5, abs=1e-3)


def _found(made: Made) -> list[Activation]:
    layers = compare_layers(
        made.reference,
        made.artifact,
        _ARRAYS,
        np.arange(40, 56),
        engine=ENGINE,
        threads=1,
        progress=lambda share: None,
    )
    return activations(made.reference, made.artifact, made.ranges, made.histograms, layers)


def test_the_integers_of_an_int8_model_stand_for_the_chosen_range(tmp_path: Path) -> None:
    made = models.make("int8", models.write(models.classifier(), tmp_path), _ARRAYS, calibrate=32)
    found = _found(made)
    assert {one.layer for one in found} >= {"conv1", "conv2"}
    assert len({one.tensor for one in found}) == len(found)
    for one in found:
        assert (one.low, one.high) == made.ranges[one.tensor]
        lowest = -one.quantizer.zero_point * one.quantizer.scale
        # Zero is an integer exactly, for which the ends give way by half a step at most.
        assert lowest == pytest.approx(one.low, abs=one.quantizer.scale)
        assert lowest + 255 * one.quantizer.scale == pytest.approx(one.high, abs=one.quantizer.scale)
        assert one.as_json()["datatype"] == "uint8"


@pytest.mark.parametrize("method", ["fp16", "dynamic"])
def test_methods_without_calibration_have_none(tmp_path: Path, method: str) -> None:
    assert _found(models.make(method, models.write(models.classifier(), tmp_path), _ARRAYS, calibrate=32)) == []
