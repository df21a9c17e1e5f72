"""Normalizations."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from worker.training.ops.signature import Ints, Operator

# From here on GroupNormalization has one scale and bias a channel; before, one a group.
_SCALED_BY_CHANNEL = 21


def _batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: Literal[0] = 0,
) -> Tensor:
    """By the stored statistics, as when the model is served; these get no gradient."""
    return functional.batch_norm(x, mean.detach(), variance.detach(), scale, bias, False, 0.0, epsilon)


def _layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    shape = x.shape[axis:]
    return functional.layer_norm(x, shape, scale.expand(shape), None if bias is None else bias.expand(shape), epsilon)


def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """One group a channel; torch's own instance_norm refuses images of one element."""
    return functional.group_norm(x, x.shape[1], scale, bias, epsilon)


def _group_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    opset: int,
) -> Tensor:
    if opset < _SCALED_BY_CHANNEL:
        in_group = x.shape[1] // num_groups
        scale, bias = scale.repeat_interleave(in_group), bias.repeat_interleave(in_group)
    return functional.group_norm(x, num_groups, scale, bias, epsilon)


def _lp_norm(x: Tensor, *, axis: int = -1, p: Literal[1, 2] = 2) -> Tensor:
    """A vector of zeros stays one, as in onnxruntime."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def _local_response_norm(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """Of odd `size` only torch's neighbours are ONNX's; onnxruntime takes no even ones."""
    return functional.local_response_norm(x, size, alpha, beta, bias)


def _mean_variance_norm(x: Tensor, *, axes: Ints | None = None) -> Tensor:
    axes = [0, 2, 3] if axes is None else axes
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response_norm,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_norm,
    "MeanVarianceNormalization": _mean_variance_norm,
}
