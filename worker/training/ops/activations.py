"""Activation functions, and the softmax family."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from worker.training.ops.signature import Operator, unary

# From here on Softmax and its kin work along one axis; before, along all axes from `axis` on, taken as one.
_ALONG_ONE_AXIS = 13


def _leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return functional.leaky_relu(x, alpha)


def _parametric_relu(x: Tensor, slope: Tensor) -> Tensor:
    """`slope` broadcasts to `x`; torch's own prelu takes one slope a channel only."""
    return torch.where(x < 0, slope * x, x)


def _elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.elu(x, alpha)


def _celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return functional.celu(x, alpha)


def _selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * functional.elu(x, alpha)


def _hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def _thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


def _shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


def _gelu(x: Tensor, *, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    return functional.gelu(x, approximate=approximate)


def _quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def _softmax(function: Callable[..., Any]) -> Operator:
    def compute(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
        if opset >= _ALONG_ONE_AXIS:
            return function(x, -1 if axis is None else axis)
        return function(x.flatten(1 if axis is None else axis), -1).reshape(x.shape)

    return compute


OPERATORS: dict[str, Operator] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": unary(functional.hardswish),
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _softmax(torch.log_softmax),
    "Mish": unary(functional.mish),
    "PRelu": _parametric_relu,
    "Relu": unary(torch.relu),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": unary(torch.sigmoid),
    "Softmax": _softmax(torch.softmax),
    "Softplus": unary(functional.softplus),
    "Softsign": unary(functional.softsign),
    "Tanh": unary(torch.tanh),
    "ThresholdedRelu": _thresholded_relu,
    "com.microsoft::Gelu": unary(functional.gelu),
    "com.microsoft::QuickGelu": _quick_gelu,
}
