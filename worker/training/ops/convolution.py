"""Convolutions of one, two and three spatial axes, and their transposes."""

from torch import Tensor
from torch.nn import functional

from worker.training.ops.signature import Ints, Operator
from worker.training.ops.windows import AutoPad, by_rank, halves, padded, padding, reach


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: AutoPad = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """`weight` is (channels out, channels in / `group`, *kernel), in torch as in ONNX."""
    convolve = by_rank(x, functional.conv1d, functional.conv2d, functional.conv3d)
    spatial = x.ndim - 2
    dilations, strides = dilations or [1] * spatial, strides or [1] * spatial
    sides = padding(x.shape[2:], reach(weight.shape[2:], dilations), strides, auto_pad, pads)
    # torch pads both ends alike, and does so without a copy.
    shared = [min(pair) if min(pair) == max(pair) else 0 for pair in sides]
    rest = [(begin - common, end - common) for (begin, end), common in zip(sides, shared, strict=True)]
    return convolve(padded(x, rest), weight, bias, strides, shared, dilations, group)


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: AutoPad = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """`weight` is (channels in, channels out / `group`, *kernel), in torch as in ONNX.

    Computed in full, then cut by the pads: torch's own padding is the same at both ends, ONNX's is not.
    """
    spread = by_rank(x, functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
    spatial = x.ndim - 2
    dilations, strides = dilations or [1] * spatial, strides or [1] * spatial
    extra = output_padding or [0] * spatial
    full = spread(x, weight, None, strides, 0, 0, group, dilations)
    if output_shape is None and auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        output_shape = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if output_shape is not None:
        wanted = output_shape[-spatial:]
        totals = [max(0, size + more - out) for size, more, out in zip(full.shape[2:], extra, wanted, strict=True)]
        sides = halves(totals, more_at_end=auto_pad == "SAME_UPPER")
    else:
        sides = padding(x.shape[2:], [1] * spatial, strides, auto_pad, pads)
    y = padded(full, [(-begin, more - end) for (begin, end), more in zip(sides, extra, strict=True)])
    return y if bias is None else y + bias.reshape(-1, *[1] * spatial)


OPERATORS: dict[str, Operator] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
