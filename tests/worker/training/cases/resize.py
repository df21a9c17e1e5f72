"""Resize: coordinates, modes and factors, up and down."""

import numpy as np

from tests.worker.training.cases.case import Array, Case, normal, whole

_IMAGE = normal(1, 2, 5, 6)
_CONSTANT = frozenset({1, 2, 3})


def _scales(*values: float) -> Array:
    return np.array(values, np.float32)


# In opset 11 what does not apply is there, and empty.
_NONE = _scales()
_FACTORS = {"2": (2.0, 2.0), "1.7, 0.6": (1.7, 0.6), "0.5, 3": (0.5, 3.0)}
_COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

# A third or half of all combinations has every two values together: those whose places sum up to a multiple of 3 or 2.

CASES = [
    *(
        Case("Resize", [_IMAGE, _NONE, _scales(1, 1, *factors)],
             {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": rounding},
             constant=_CONSTANT, label=f"{coordinates}, {rounding}, {label}", is_extra=(i + j + k) % 3 != 0)
        for i, coordinates in enumerate(_COORDINATES)
        for j, rounding in enumerate(_ROUNDINGS)
        for k, (label, factors) in enumerate(_FACTORS.items())
    ),
    Case("Resize", [_IMAGE, _NONE, _scales(1, 1, 2, 3)],
         {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}, until=12, constant=_CONSTANT,
         label="tf_half_pixel_for_nn"),
    *(
        Case("Resize", [_IMAGE, _NONE, _scales(1, 1, *factors)],
             {"mode": mode, "coordinate_transformation_mode": coordinates}, constant=_CONSTANT,
             label=f"{mode}, {coordinates}, {label}", is_extra=(i + j + k) % 2 != 0)
        for i, mode in enumerate(("linear", "cubic"))
        for j, coordinates in enumerate(_COORDINATES)
        for k, (label, factors) in enumerate(_FACTORS.items())
    ),
    *(
        Case("Resize", [_IMAGE, _NONE, _scales(1, 1, 1.7, 0.6)],
             {"mode": mode, "coordinate_transformation_mode": "half_pixel_symmetric"}, since=19, constant=_CONSTANT,
             label=f"{mode}, half_pixel_symmetric")
        for mode in ("nearest", "linear", "cubic")
    ),
    *(
        Case("Resize", [_IMAGE, _NONE, _NONE, whole(1, 2, 7, 4)], {"mode": mode}, constant=_CONSTANT,
             label=f"{mode}, sizes")
        for mode in ("nearest", "linear", "cubic")
    ),
    Case("Resize", [_IMAGE, None, None, whole(1, 2, 7, 4)], {"mode": "linear"}, since=13, constant=_CONSTANT,
         label="left out, not empty"),
    Case("Resize", [_IMAGE, None, None, whole(7, 4)], {"mode": "linear", "axes": [2, 3], "antialias": 0}, since=18,
         constant=_CONSTANT, label="axes"),
    Case("Resize", [_IMAGE, _NONE, _scales(1, 1, 1.7, 0.6)],
         {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}, constant=_CONSTANT, label="exclude_outside"),
    Case("Resize", [normal(2, 3, 6), _NONE, _scales(1, 1, 2)], {"mode": "nearest"}, constant=_CONSTANT, label="1 axis"),
]  # fmt: skip
