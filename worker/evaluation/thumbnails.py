"""Samples that are images, small enough to look at in a report."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Pixels of the longer side, at most.
LARGEST_SIDE = 64

_SMALLEST_SIDE = 8
_CHANNELS = {1, 3}
# A palette halves the bytes, and at this size nobody sees it.
_COLOURS = 64

# What the values of a channel lie between is seen on so many samples, and not on one that may be all sky.
_REFERENCE_SAMPLES = 64
_REFERENCE_VALUES = 2**22


@dataclass(frozen=True)
class Images:
    """An input of images: `values` `(samples, channels, height, width)` or, if `channels_last`, `(…, channels)`."""

    values: NDArray[Any]
    channels_last: bool

    def thumbnails(self, indices: Sequence[int], reference: Sequence[int]) -> list[str]:
        """PNG images of the samples at `indices`, as `data:` URLs.

        Whatever normalised the pixels is undone as far as can be told: for each channel, what lies between the least
        and the largest value of some samples at `reference` becomes 0 to 255. Bytes are taken as they are.
        """
        low, high = self._ends(reference)
        return [_png(self._pixels(index, low, high)) for index in indices]

    def _ends(self, reference: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sample_values = max(1, int(np.prod(self.values.shape[1:])))
        few = max(1, min(_REFERENCE_SAMPLES, _REFERENCE_VALUES // sample_values, len(reference)))
        seen = np.concatenate([self._sample(index).reshape(-1, self._channels) for index in reference[:few]])
        return seen.min(axis=0), seen.max(axis=0)

    def _pixels(self, index: int, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.uint8]:
        sample = self._sample(index)
        if self.values.dtype != np.uint8:
            sample = (sample - low) / np.where(high > low, high - low, 1.0) * 255.0
        pixels: NDArray[np.uint8] = np.rint(np.clip(sample, 0.0, 255.0)).astype(np.uint8)
        return pixels

    def _sample(self, index: int) -> NDArray[np.float64]:
        """`(height, width, channels)`, finite."""
        sample: NDArray[np.float64] = np.nan_to_num(self.values[index].astype(np.float64), posinf=0.0, neginf=0.0)
        return sample if self.channels_last else sample.transpose(1, 2, 0)

    @property
    def _channels(self) -> int:
        return int(self.values.shape[-1 if self.channels_last else 1])


def find_images(arrays: Mapping[str, NDArray[Any]], inputs: Sequence[str]) -> Images | None:
    """The first of `inputs` that looks like images of one or three channels; None where none does."""
    for name in inputs:
        values = arrays.get(name)
        if values is None or values.ndim != 4 or (values.dtype.kind != "f" and values.dtype != np.uint8):
            continue
        _, first, _, last = values.shape
        if first in _CHANNELS and min(values.shape[2:]) >= _SMALLEST_SIDE:
            return Images(values, channels_last=False)
        if last in _CHANNELS and min(values.shape[1:3]) >= _SMALLEST_SIDE:
            return Images(values, channels_last=True)
    return None


def _png(pixels: NDArray[np.uint8]) -> str:
    # Imported here: most jobs show no image.
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BILINEAR)
    if image.mode == "RGB":
        image = image.quantize(_COLOURS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
