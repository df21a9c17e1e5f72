"""Arithmetic, comparison and logic, element by element; shapes broadcast as numpy's do, in torch as in ONNX."""

from typing import Any

import onnx
import torch
from torch import Tensor

from worker.training.ops.signature import Operator, Refused, binary, unary, variadic

_P = onnx.TensorProto
DTYPES: dict[int, Any] = {
    _P.FLOAT: torch.float32,
    _P.DOUBLE: torch.float64,
    _P.FLOAT16: torch.float16,
    _P.BFLOAT16: torch.bfloat16,
    _P.BOOL: torch.bool,
    _P.INT8: torch.int8,
    _P.INT16: torch.int16,
    _P.INT32: torch.int32,
    _P.INT64: torch.int64,
    _P.UINT8: torch.uint8,
    _P.UINT16: torch.uint16,
    _P.UINT32: torch.uint32,
    _P.UINT64: torch.uint64,
}


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """Integers divide as in C, towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    """The type is the base's, whatever the exponent's."""
    return torch.pow(base, exponent).to(base.dtype)


def _modulo(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def _mean(*values: Tensor) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / len(values)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _clip(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    return x if min is None and max is None else torch.clamp(x, min, max)


def _is_infinite(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    return (torch.isneginf(x) & bool(detect_negative)) | (torch.isposinf(x) & bool(detect_positive))


def _cast(x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """`saturate` is about float8 alone, which is not among the types here."""
    if to not in DTYPES:
        raise Refused(f"a cast to {_P.DataType.Name(to)}")
    return x.to(DTYPES[to])


def _cast_like(x: Tensor, target: Tensor, *, saturate: int = 1) -> Tensor:
    return x.to(target.dtype)


def _identity(x: Tensor) -> Tensor:
    return x


def _dropout(
    x: Tensor, ratio: float | None = None, training_mode: bool | None = None, *, seed: int | None = None
) -> Tensor:
    """What Dropout does when a model is served: nothing."""
    if training_mode:
        raise Refused("training_mode")
    return x


OPERATORS: dict[str, Operator] = {
    "Abs": unary(torch.abs),
    "Acos": unary(torch.acos),
    "Add": binary(torch.add),
    "And": binary(torch.logical_and),
    "Asin": unary(torch.asin),
    "Atan": unary(torch.atan),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": unary(torch.ceil),
    "Clip": _clip,
    "Cos": unary(torch.cos),
    "Cosh": unary(torch.cosh),
    "Div": binary(_divide),
    "Dropout": _dropout,
    "Equal": binary(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Floor": unary(torch.floor),
    "Greater": binary(torch.gt),
    "GreaterOrEqual": binary(torch.ge),
    "Identity": _identity,
    "IsInf": _is_infinite,
    "IsNaN": unary(torch.isnan),
    "Less": binary(torch.lt),
    "LessOrEqual": binary(torch.le),
    "Log": unary(torch.log),
    "Max": variadic(torch.maximum),
    "Mean": _mean,
    "Min": variadic(torch.minimum),
    "Mod": _modulo,
    "Mul": binary(torch.mul),
    "Neg": unary(torch.neg),
    "Not": unary(torch.logical_not),
    "Or": binary(torch.logical_or),
    "Pow": binary(_power),
    "Reciprocal": unary(torch.reciprocal),
    "Round": unary(torch.round),
    "Sign": unary(torch.sign),
    "Sin": unary(torch.sin),
    "Sinh": unary(torch.sinh),
    "Sqrt": unary(torch.sqrt),
    "Sub": binary(torch.sub),
    "Sum": variadic(torch.add),
    "Tan": unary(torch.tan),
    "Where": _where,
    "Xor": binary(torch.logical_xor),
}
