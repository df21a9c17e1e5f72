"""Arithmetic, comparison and logic."""

import numpy as np
from onnx import TensorProto

from tests.worker.training.cases.case import Case, normal, positive, scalar, whole

_X = normal(2, 3, 4)
_WITHIN = np.tanh(_X)
_TRUTH = _X > 0
_HALVES = np.array([-2.5, -1.5, -0.5, -0.2, 0.0, 0.5, 0.7, 1.5, 2.5], np.float32)
_SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], np.float32)
_LEFT, _RIGHT = whole(-7, -7, 7, 7, 0), whole(2, -2, 2, -2, 3)

_UNARY = {
    "Abs": _X, "Acos": _WITHIN, "Asin": _WITHIN, "Atan": _X, "Ceil": _X, "Cos": _X, "Cosh": _X, "Erf": _X, "Exp": _X,
    "Floor": _X, "Identity": _X, "Log": positive(2, 3), "Neg": _X, "Not": _TRUTH, "Reciprocal": positive(2, 3),
    "Round": _HALVES, "Sign": _HALVES, "Sin": _X, "Sinh": _X, "Sqrt": positive(2, 3), "Tan": _WITHIN, "IsNaN": _SPECIAL,
}  # fmt: skip

CASES = [
    *(Case(operator, [x]) for operator, x in _UNARY.items()),
    *(Case(operator, [_X, normal(3, 1, seed=1)]) for operator in ("Add", "Sub", "Mul", "Div")),
    *(Case(operator, [_LEFT, _RIGHT], label="int64") for operator in ("Add", "Sub", "Mul", "Div")),
    Case("Div", [_LEFT.astype(np.int32), _RIGHT.astype(np.int32)], label="int32"),
    Case("Pow", [positive(2, 3), normal(3, seed=1)]),
    Case("Pow", [_X, scalar(2.0, np.float32)], constant=frozenset({1}), label="square"),
    Case("Pow", [whole(1, 2, 3), scalar(2.0, np.float32)], label="integer base", since=12),
    Case("Pow", [_X, whole(2, 3, 1, 2)], label="integer exponent", since=12),
    Case("Mod", [_LEFT, _RIGHT]),
    Case("Mod", [_LEFT, _RIGHT], {"fmod": 1}, label="as in C"),
    Case("Mod", [_X, positive(3, 4)], {"fmod": 1}, label="float"),
    *(
        Case(operator, [np.round(_X), np.round(normal(3, 4, seed=1))])
        for operator in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    ),
    Case("Equal", [_LEFT, _RIGHT], label="int64"),
    *(Case(operator, [_TRUTH, normal(3, 4, seed=1) > 0]) for operator in ("And", "Or", "Xor")),
    *(
        Case(operator, [_X, normal(4, seed=1), normal(3, 1, seed=2)])
        for operator in ("Max", "Min", "Sum", "Mean")
    ),
    *(Case(operator, [_X], label="of one") for operator in ("Max", "Min", "Sum", "Mean")),
    Case("Max", [_LEFT, _RIGHT], label="int64", since=12),
    Case("Min", [_LEFT, _RIGHT], label="int64", since=12),
    Case("Where", [_TRUTH, _X, normal(4, seed=1)]),
    Case("Clip", [_X], label="unbounded"),
    Case("Clip", [_X, scalar(-0.5, np.float32)], constant=frozenset({1}), label="below"),
    Case("Clip", [_X, None, scalar(0.3, np.float32)], constant=frozenset({2}), label="above"),
    Case("Clip", [_X, *(scalar(bound, np.float32) for bound in (-0.5, 0.3))], constant=frozenset({1, 2})),
    Case("Clip", [_LEFT, scalar(-2), scalar(3)], constant=frozenset({1, 2}), label="int64", since=12),
    *(
        Case("Cast", [_X * 3], {"to": to}, label=TensorProto.DataType.Name(to))
        for to in (
            TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.INT8,
            TensorProto.INT32, TensorProto.INT64,
        )
    ),
    Case("Cast", [np.abs(_X) * 3], {"to": TensorProto.UINT8}, label="UINT8"),
    Case("Cast", [_LEFT], {"to": TensorProto.FLOAT}, label="from int64"),
    Case("Cast", [_TRUTH], {"to": TensorProto.FLOAT}, label="from bool"),
    Case("Cast", [_X], {"to": TensorProto.FLOAT, "saturate": 1}, label="saturate", since=19),
    Case("CastLike", [_X * 3, whole(1)]),
    Case("IsInf", [_SPECIAL]),
    Case("IsInf", [_SPECIAL], {"detect_negative": 0}, label="positive"),
    Case("IsInf", [_SPECIAL], {"detect_positive": 0}, label="negative"),
    Case("Dropout", [_X], {"ratio": 0.5}, label="attribute", until=11),
    Case("Dropout", [_X, scalar(0.5, np.float32)], constant=frozenset({1}), since=12),
    Case(
        "Dropout",
        [_X, scalar(0.5, np.float32), scalar(False, np.bool_)],
        {"seed": 1},
        constant=frozenset({1, 2}),
        since=12,
        label="mode given",
    ),
]  # fmt: skip
