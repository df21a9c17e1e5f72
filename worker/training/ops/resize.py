"""Resize, axis by axis.

Each element of the result is a weighted sum of one (nearest), two (linear) or four (cubic) elements of the input.
`torch.nn.functional.interpolate` has a few of ONNX's coordinates only, and rounds ties its own way; sums of gathered
elements have them all.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.training.ops.signature import Floats, Ints, Operator, Refused

_Positions = NDArray[np.float32]
_Coordinates = Callable[[_Positions, np.float32, int, int], _Positions]


def _resize(
    x: Tensor,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: Ints | None = None,
    *,
    antialias: Literal[0] = 0,
    axes: Ints | None = None,
    coordinate_transformation_mode: Literal[
        "half_pixel",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "half_pixel_symmetric",
        "tf_half_pixel_for_nn",
    ] = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: Literal["stretch"] = "stretch",
    mode: Literal["nearest", "linear", "cubic"] = "nearest",
    nearest_mode: Literal["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] = "round_prefer_floor",
) -> Tensor:
    """`sizes`, or `scales` of which the extents are rounded down; exporters leave empty what does not apply."""
    axes = list(range(x.ndim)) if axes is None else axes
    if not scales and not sizes:
        raise Refused("neither scales nor sizes")
    for place, axis in enumerate(axes):
        extent = x.shape[axis]
        resized = sizes[place] if sizes else int(extent * np.float32(scales[place]))  # type: ignore[index]
        scale = np.float32(resized / extent) if sizes else np.float32(scales[place])  # type: ignore[index]
        if scale == 1 and resized == extent:
            continue
        # In single precision, as onnxruntime: ties fall where they fall there.
        positions = _COORDINATES[coordinate_transformation_mode](
            np.arange(resized, dtype=np.float32), scale, extent, resized
        )
        if mode == "nearest":
            places, weights = _NEAREST[nearest_mode](positions)[:, None], None
        elif mode == "linear":
            places, weights = _linear(positions, extent)
        else:
            places, weights = _cubic(positions, extent, cubic_coeff_a, bool(exclude_outside))
        x = _summed(x, axis, places.clip(0, extent - 1).astype(np.int64), weights)
    return x


def _half_pixel(at: _Positions, scale: np.float32, extent: int, resized: int) -> _Positions:
    return (at + np.float32(0.5)) / scale - np.float32(0.5)


def _pytorch_half_pixel(at: _Positions, scale: np.float32, extent: int, resized: int) -> _Positions:
    return _half_pixel(at, scale, extent, resized) if resized > 1 else np.zeros_like(at)


def _half_pixel_symmetric(at: _Positions, scale: np.float32, extent: int, resized: int) -> _Positions:
    """Where the resized extent was rounded, what was lost is taken from both ends alike."""
    kept = np.float32(resized) / (scale * np.float32(extent))
    return np.float32(extent / 2) * (1 - kept) + _half_pixel(at, scale, extent, resized)


def _align_corners(at: _Positions, scale: np.float32, extent: int, resized: int) -> _Positions:
    return at * np.float32(extent - 1) / np.float32(resized - 1) if resized > 1 else np.zeros_like(at)


def _asymmetric(at: _Positions, scale: np.float32, extent: int, resized: int) -> _Positions:
    return at / scale


def _tf_half_pixel_for_nn(at: _Positions, scale: np.float32, extent: int, resized: int) -> _Positions:
    return (at + np.float32(0.5)) / scale


_COORDINATES: dict[str, _Coordinates] = {
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
}

_NEAREST: dict[str, Callable[[_Positions], _Positions]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda at: np.floor(at + np.float32(0.5)),
    "round_prefer_floor": lambda at: np.ceil(at - np.float32(0.5)),
}


def _linear(positions: _Positions, extent: int) -> tuple[_Positions, _Positions]:
    """The two neighbours of each position, and their weights, both (resized, 2)."""
    within = positions.clip(0, extent - 1)
    first = np.floor(within)
    beyond = within - first
    return np.stack([first, first + 1], 1), np.stack([1 - beyond, beyond], 1)


def _cubic(positions: _Positions, extent: int, a: float, only_inside: bool) -> tuple[_Positions, _Positions]:
    """The four neighbours of each position, and their weights, both (resized, 4): Keys' kernel (1981) of slope `a`."""
    first = np.floor(positions)
    places = first[:, None] + np.arange(-1, 3, dtype=np.float32)
    distance = np.abs(positions[:, None] - places)
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    weights = np.where(distance <= 1, near, far)
    if only_inside:
        weights = np.where((places >= 0) & (places < extent), weights, 0)
        weights = weights / weights.sum(1, keepdims=True)
    return places, weights.astype(np.float32)


def _summed(x: Tensor, axis: int, places: NDArray[np.int64], weights: _Positions | None) -> Tensor:
    """For each row of `places` the sum of those elements along `axis`, by `weights`; both (resized, neighbours)."""
    if weights is None:
        return x.index_select(axis, torch.from_numpy(places[:, 0].copy()))
    shape = [-1 if other == axis % x.ndim else 1 for other in range(x.ndim)]
    total = torch.zeros(())
    for neighbour, weight in zip(places.T, weights.T, strict=True):
        chosen = x.index_select(axis, torch.from_numpy(neighbour.copy()))
        total = total + chosen * torch.from_numpy(weight.copy()).to(x.dtype).reshape(shape)
    return total


OPERATORS: dict[str, Operator] = {"Resize": _resize}
