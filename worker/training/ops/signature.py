"""How an operator of ONNX is written down as a Python function.

Its positional parameters are the inputs, in ONNX's order; attributes are passed by ONNX's name. What was an attribute
in one opset and is an input in another (the axes of a reduction, the sizes of a Split) is one parameter of that name,
and serves both forms. Annotations say how an input arrives: one of `Tensor` as a tensor, every other as a Python
value, read once where the input is constant. An attribute of a `Literal` type takes those values and is refused with
any other, an attribute that no parameter is named after is refused too. Two names are given by us: `opset`, the version
of the operator set, and `outputs`, how many outputs the node has.

A function computes one output, a `Tensor`, or is annotated to return `Tensors`.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

from torch import Tensor

Ints = list[int]
Floats = list[float]
Tensors = tuple[Tensor, ...]
Operator = Callable[..., Any]


class Refused(Exception):
    """This use of an operator cannot be done; the message says which, without the node's name."""


def unary(function: Callable[[Tensor], Tensor]) -> Operator:
    """An operator of one input without attributes."""

    def compute(x: Tensor) -> Tensor:
        return function(x)

    return compute


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of two inputs, broadcast to one shape, without attributes."""

    def compute(a: Tensor, b: Tensor) -> Tensor:
        return function(a, b)

    return compute


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of one or more inputs: `function` of the first two, of that and the third, and so on."""

    def compute(*values: Tensor) -> Tensor:
        return reduce(function, values)

    return compute
