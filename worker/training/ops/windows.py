"""Where windows lie: what convolutions and pools have in common.

Spatial axes are those after batch and channels. `Sides` are (begin, end) of each of them, in elements.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.nn import functional

from worker.training.ops.signature import Ints, Operator, Refused

AutoPad = Literal["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]
Sides = list[tuple[int, int]]


def by_rank(x: Tensor, *functions: Operator) -> Operator:
    """That of `functions`, for one, two, three spatial axes, which is made for `x`."""
    spatial: int = x.ndim - 2
    if not 1 <= spatial <= len(functions):
        raise Refused(f"an input of {x.ndim} axes")
    return functions[spatial - 1]


def reach(kernel: Sequence[int], dilations: Sequence[int]) -> Ints:
    """Elements from the first to the last that a window reads, both counted."""
    return [dilation * (extent - 1) + 1 for extent, dilation in zip(kernel, dilations, strict=True)]


def padding(sizes: Sequence[int], reaches: Ints, strides: Ints, auto_pad: AutoPad, pads: Ints | None) -> Sides:
    """What is added around an input of spatial `sizes`, as `pads` say it or as `auto_pad` asks for it."""
    if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        # As many windows as strides begin within the input.
        totals = [
            max(0, (-(-size // stride) - 1) * stride + extent - size)
            for size, extent, stride in zip(sizes, reaches, strides, strict=True)
        ]
        return halves(totals, more_at_end=auto_pad == "SAME_UPPER")
    if auto_pad == "VALID" or pads is None:
        return [(0, 0)] * len(sizes)
    return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))


def halves(totals: Sequence[int], *, more_at_end: bool) -> Sides:
    """Each of `totals` on both sides of its axis, the odd element at the end or at the beginning."""
    pairs = [(total // 2, total - total // 2) for total in totals]
    return pairs if more_at_end else [(end, begin) for begin, end in pairs]


def padded(x: Tensor, sides: Sides, value: float = 0.0) -> Tensor:
    """`x` with `value` around its spatial axes; where a side is below 0, cut."""
    if not any(side for pair in sides for side in pair):
        return x
    # torch lists the last axis first.
    return functional.pad(x, [side for pair in reversed(sides) for side in pair], value=value)
