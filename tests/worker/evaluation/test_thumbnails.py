"""Small images of samples."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from worker.evaluation.thumbnails import LARGEST_SIDE, Images, find_images

_MOST_BYTES = 8000


def _decoded(url: str) -> Image.Image:
    kind, content = url.split(",", 1)
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def _found(values: NDArray[Any]) -> Images:
    images = find_images({"x": values}, ["x"])
    assert images is not None
    return images


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.just(2), st.sampled_from([1, 3]), st.integers(8, 90), st.integers(8, 90)),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=32),
    )
)
def test_whatever_an_image_holds_its_thumbnail_is_small(values: NDArray[np.float32]) -> None:
    for url in _found(values).thumbnails([0, 1], [0, 1]):
        assert len(url) < _MOST_BYTES
        image = _decoded(url)
        assert max(image.size) == min(LARGEST_SIDE, max(values.shape[2:]))


def test_normalised_pixels_come_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 3, 16, 16), endpoint=True)
    normalised = ((pixels / 255 - 0.5) / np.array([0.2, 0.3, 0.4]).reshape(3, 1, 1)).astype(np.float32)
    (url,) = _found(normalised).thumbnails([3], range(40))
    shown = np.asarray(_decoded(url).convert("RGB")).astype(int)
    assert np.abs(shown - pixels[3].transpose(1, 2, 0)).mean() < 30
    assert np.corrcoef(shown.ravel(), pixels[3].transpose(1, 2, 0).ravel())[0, 1] > 0.9


@pytest.mark.parametrize("shape", [(2, 1, 12, 20), (2, 12, 20, 1)])
def test_bytes_are_taken_as_they_are(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    (url,) = _found(values).thumbnails([1], [0])
    assert np.array_equal(np.asarray(_decoded(url)), values[1].reshape(12, 20))


def test_an_image_of_one_value_is_no_error() -> None:
    assert len(_found(np.full((1, 3, 8, 8), 0.5, np.float32)).thumbnails([0], [0])) == 1


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 4), np.float32),
        np.zeros((2, 5, 16, 16), np.float32),
        np.zeros((2, 3, 4, 4), np.float32),
        np.zeros((2, 3, 16, 16), np.int64),
    ],
    ids=["a table", "five channels", "four pixels", "integers"],
)
def test_what_is_no_image_has_none(values: NDArray[Any]) -> None:
    assert find_images({"x": values}, ["x"]) is None


def test_only_inputs_of_the_model_are_looked_at() -> None:
    images = np.zeros((2, 3, 16, 16), np.float32)
    assert find_images({"other": images}, ["x"]) is None
