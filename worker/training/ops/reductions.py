"""Reductions along axes, and what looks for the largest and smallest."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worker.training.ops.signature import Ints, Operator, Tensors

Axes = tuple[int, ...]


def _reduction(function: Callable[[Tensor, Axes, bool], Tensor]) -> Operator:
    """`function` of a tensor, the axes to reduce (never none), and whether these stay as axes of extent 1."""

    def compute(x: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        if not axes:
            if noop_with_empty_axes:
                return x
            axes = list(range(x.ndim))
        return function(x, tuple(axes), bool(keepdims)) if axes else function(x[None], (0,), False)

    return compute


def _sum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return x.sum(axes, keep, dtype=x.dtype)


def _mean(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keep)
    total = _sum(x, axes, keep)
    return torch.div(total, x.numel() // max(1, total.numel()), rounding_mode="trunc")


def _product(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    """torch multiplies along one axis at a time: the last first, so that the others keep their numbers."""
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def _l1(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    """The norm's gradient at zero is 0, where the square root's is infinite."""
    return torch.linalg.vector_norm(x, 2, axes, keep)


def _sum_of_squares(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _log_sum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _sum(x, axes, keep).log()


def _argument(function: Callable[..., Any]) -> Operator:
    """The index of the first of the extremes along an axis; with `select_last_index` the last."""

    def compute(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if select_last_index:
            return x.shape[axis] - 1 - function(x.flip(axis), axis, bool(keepdims))
        return function(x, axis, bool(keepdims))

    return compute


def _top_k(x: Tensor, k: int, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> Tensors:
    """By a stable sort: of equal values ONNX takes those that come first, and torch's own topk any."""
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


def _cumulative_sum(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    if reverse:
        x = x.flip(axis)
    total = x.cumsum(axis, dtype=x.dtype)
    if exclusive:
        total = total - x
    return total.flip(axis) if reverse else total


OPERATORS: dict[str, Operator] = {
    "ArgMax": _argument(torch.argmax),
    "ArgMin": _argument(torch.argmin),
    "CumSum": _cumulative_sum,
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_l2),
    "ReduceLogSum": _reduction(_log_sum),
    "ReduceLogSumExp": _reduction(torch.logsumexp),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(_sum_of_squares),
    "TopK": _top_k,
}
