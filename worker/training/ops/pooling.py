"""Pools: the largest, the mean of each window or of a whole image."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.training.ops.signature import Ints, Operator, Refused
from worker.training.ops.windows import AutoPad, Sides, by_rank, padded, padding, reach


def _max_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: AutoPad = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    storage_order: int = 0,
    strides: Ints | None = None,
) -> Tensor:
    pool = by_rank(x, functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
    spatial = x.ndim - 2
    dilations, strides = dilations or [1] * spatial, strides or [1] * spatial
    _refuse_padding_of_its_own(auto_pad, kernel_shape, strides, dilations)
    reaches = reach(kernel_shape, dilations)
    sides = padding(x.shape[2:], reaches, strides, auto_pad, pads)
    extra = _ceiling(x.shape[2:], reaches, strides, sides) if ceil_mode else sides
    # torch pads at most half a window, and both ends alike. Of padding alone onnxruntime takes the lowest number, which
    # is not -∞, for the largest.
    return pool(padded(x, extra, torch.finfo(x.dtype).min), kernel_shape, strides, 0, dilations)


def _average_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: AutoPad = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Padding counts as zeros with `count_include_pad`, else not at all; what `ceil_mode` adds never counts."""
    if any(dilation != 1 for dilation in dilations or []):
        raise Refused(f"dilations {dilations}")
    pool = by_rank(x, functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
    strides = strides or [1] * (x.ndim - 2)
    _refuse_padding_of_its_own(auto_pad, kernel_shape, strides, [1] * len(strides))
    sides = padding(x.shape[2:], kernel_shape, strides, auto_pad, pads)
    extra = _ceiling(x.shape[2:], kernel_shape, strides, sides) if ceil_mode else sides
    mean = pool(padded(x, extra), kernel_shape, strides)
    counted = sides if count_include_pad else [(0, 0)] * len(sides)
    if counted == extra:
        return mean
    # The share of each window that counts, by the same pool.
    ones = padded(x.new_ones((1, 1, *x.shape[2:])), counted, 1.0)
    outside = [(begin - within, end - ending) for (begin, end), (within, ending) in zip(extra, counted, strict=True)]
    return mean / pool(padded(ones, outside), kernel_shape, strides)


def _refuse_padding_of_its_own(auto_pad: AutoPad, kernel: Ints, strides: Ints, dilations: Ints) -> None:
    """onnxruntime pads neither windows with holes, nor with more than one element between them, as ONNX says."""
    sparse = any(gap > 1 for gap in dilations) or any(s > k + 1 for s, k in zip(strides, kernel, strict=True))
    if sparse and auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        raise Refused(f"auto_pad {auto_pad} of windows {kernel}, strides {strides} and dilations {dilations}")


def _ceiling(sizes: Ints, reaches: Ints, strides: Ints, sides: Sides) -> Sides:
    """`sides` with so much more at each end that a last window fits which began before the end of the input."""
    wider = []
    for size, extent, stride, (begin, end) in zip(sizes, reaches, strides, sides, strict=True):
        last = -(-(size + begin + end - extent) // stride) * stride
        if last >= size + begin:
            last -= stride
        wider.append((begin, max(end, last + extent - size - begin)))
    return wider


def _spatial_axes(x: Tensor) -> Ints:
    return list(range(2, x.ndim))


def _global_average_pool(x: Tensor) -> Tensor:
    return x.mean(_spatial_axes(x), keepdim=True)


def _global_max_pool(x: Tensor) -> Tensor:
    return x.amax(_spatial_axes(x), keepdim=True)


OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
}
