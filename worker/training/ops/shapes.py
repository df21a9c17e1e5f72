"""Shapes: asked for, changed, made; the values stay what they are."""

from math import prod
from typing import Literal

import torch
from torch import Tensor

from worker.training.ops.signature import Ints, Operator, Refused, Tensors


def _constant(*, value: Tensor) -> Tensor:
    """Never computed: the module takes each Constant, in all its forms, for an initializer."""
    return value


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


def _reshape(x: Tensor, shape: Ints, *, allowzero: int = 0) -> Tensor:
    """A 0 takes over the extent of the same axis of `x`, unless `allowzero`; one -1 is what remains."""
    if not allowzero:
        shape = [extent or x.shape[axis] for axis, extent in enumerate(shape)]
    return x.reshape(shape)


def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Two axes: all before `axis`, and all from it on."""
    rows = prod(x.shape[: axis if axis >= 0 else axis + x.ndim])
    return x.reshape(rows, x.numel() // rows if rows else prod(x.shape[axis:]))


def _transpose(x: Tensor, *, perm: Ints | None = None) -> Tensor:
    return x.permute(perm if perm is not None else tuple(reversed(range(x.ndim))))


def _squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(x: Tensor, axes: Ints) -> Tensor:
    """`axes` are those of the result."""
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _expand(x: Tensor, shape: Ints) -> Tensor:
    """Broadcasting goes both ways: an extent of 1 in `shape` leaves that of `x`."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def _tile(x: Tensor, repeats: Ints) -> Tensor:
    return x.repeat(repeats)


def _concat(*values: Tensor, axis: int) -> Tensor:
    return torch.cat(values, axis)


def _split(
    x: Tensor, split: Ints | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int
) -> Tensors:
    """Into the sizes of `split`; without it, into equal parts, of which the last may be smaller."""
    if split is None:
        parts = num_outputs or outputs
        extent = x.shape[axis]
        part = -(-extent // parts)
        split = [min(part, extent - part * position) for position in range(parts)]
        if min(split) < 0:
            raise Refused(f"{extent} elements cannot be split into {parts} parts")
    return tuple(x.split(split, axis))


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _constant_of_shape(shape: Ints, *, value: Tensor | None = None) -> Tensor:
    return torch.zeros(shape) if value is None else value.reshape(()).expand(shape)


def _depth_to_space(x: Tensor, *, blocksize: int, mode: Literal["DCR", "CRD"] = "DCR") -> Tensor:
    """(batch, c·b·b, height, width) → (batch, c, height·b, width·b); `mode` tells where in the channels b·b is."""
    batch, depth, height, width = x.shape
    channels = depth // blocksize**2
    if mode == "DCR":
        blocks = x.reshape(batch, blocksize, blocksize, channels, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(batch, channels, blocksize, blocksize, height, width).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(batch, channels, height * blocksize, width * blocksize)


def _space_to_depth(x: Tensor, *, blocksize: int) -> Tensor:
    batch, channels, height, width = x.shape
    rows, columns = height // blocksize, width // blocksize
    blocks = x.reshape(batch, channels, rows, blocksize, columns, blocksize).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, channels * blocksize**2, rows, columns)


OPERATORS: dict[str, Operator] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
