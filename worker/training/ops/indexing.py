"""Elements by their place: gathered, scattered, cut out, padded."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from worker.training.ops.signature import Ints, Operator


def _from_the_start(indices: Tensor, extent: int) -> Tensor:
    """Indices with those below 0, which count from the end, made positive."""
    return torch.where(indices < 0, indices + extent, indices).long()


def _gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis %= x.ndim
    chosen = x.index_select(axis, _from_the_start(indices.reshape(-1), x.shape[axis]))
    return chosen.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return torch.gather(x, axis, _from_the_start(indices, x.shape[axis]))


def _gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """The last axis of `indices` addresses the axes of `x` after the first `batch_dims`, which both share."""
    places = indices.long().unbind(-1)
    rank = indices.ndim - 1
    batch = [
        torch.arange(x.shape[axis]).reshape([-1 if other == axis else 1 for other in range(rank)])
        for axis in range(batch_dims)
    ]
    return x[(*batch, *places)]


def _scatter_elements(
    x: Tensor,
    indices: Tensor,
    updates: Tensor,
    *,
    axis: int = 0,
    reduction: Literal["none", "add", "mul", "min", "max"] = "none",
) -> Tensor:
    places = _from_the_start(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


_REDUCTIONS = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}


def _scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: Literal["none", "add"] = "none") -> Tensor:
    return x.index_put(indices.long().unbind(-1), updates, accumulate=reduction == "add")


def _slice(x: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Tensor:
    """Python clamps bounds as ONNX does, `ends` of ±2⁶³ among them; torch takes no negative step."""
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen = range(*slice(start, end, step).indices(x.shape[axis]))
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(chosen.start, chosen.stop, step),)]
        else:
            x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return x


def _pad(
    x: Tensor,
    pads: Ints,
    constant_value: float | None = None,
    axes: Ints | None = None,
    *,
    mode: Literal["constant", "reflect", "edge", "wrap"] = "constant",
) -> Tensor:
    """`pads` holds what is added at the beginning of each axis, then at the end; less than 0 cuts off."""
    axes = list(range(x.ndim)) if axes is None else axes
    around = {axis % x.ndim: (pads[place], pads[place + len(axes)]) for place, axis in enumerate(axes)}
    if mode == "constant":
        # torch lists the last axis first.
        sides = [side for axis in reversed(range(x.ndim)) for side in around.get(axis, (0, 0))]
        return functional.pad(x, sides, value=constant_value or 0)
    for axis, (begin, end) in around.items():
        if begin or end:
            x = x.index_select(axis, _padded_places(x.shape[axis], begin, end, mode))
    return x


def _padded_places(extent: int, begin: int, end: int, mode: str) -> Tensor:
    """Where in an axis of `extent` each element of the padded one comes from, (extent + begin + end,)."""
    places = torch.arange(-begin, extent + end)
    if mode == "wrap":
        return places % extent
    if mode == "edge":
        return places.clamp(0, extent - 1)
    # Forth and back again without repeating the outermost elements: a period of 2·(extent - 1).
    period = max(1, 2 * (extent - 1))
    return (extent - 1) - ((places % period) - (extent - 1)).abs()


def _triangle(x: Tensor, k: int | None = None, *, upper: int = 1) -> Tensor:
    return torch.triu(x, k or 0) if upper else torch.tril(x, k or 0)


def _one_hot(indices: Tensor, depth: int, values: Tensor, *, axis: int = -1) -> Tensor:
    """`values` is (off, on); an index outside of ±`depth` gives a row of off alone."""
    classes = torch.arange(depth)
    hot = _from_the_start(indices, depth).unsqueeze(-1) == classes
    off, on = values.unbind()
    return torch.where(hot, on, off).movedim(-1, axis)


def _nonzero(x: Tensor) -> Tensor:
    return torch.nonzero(x).t()


OPERATORS: dict[str, Operator] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _nonzero,
    "OneHot": _one_hot,
    "Pad": _pad,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "Trilu": _triangle,
}
