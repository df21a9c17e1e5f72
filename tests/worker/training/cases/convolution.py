"""Convolutions and their transposes."""

from tests.worker.training.cases.case import Case, normal

_WEIGHTS = frozenset({1, 2})
_IMAGE = normal(2, 4, 9, 8)


def _conv(weight: tuple[int, ...], label: str, *, image: tuple[int, ...] = (2, 4, 9, 8), **attributes: object) -> Case:
    inputs = [normal(*image), normal(*weight, seed=1), normal(weight[0], seed=2)]
    return Case("Conv", inputs, attributes, constant=_WEIGHTS, label=label)


def _transposed(
    weight: tuple[int, ...], label: str, *, image: tuple[int, ...] = (2, 4, 5, 6), **attributes: object
) -> Case:
    channels = weight[1] * int(str(attributes.get("group", 1)))
    inputs = [normal(*image), normal(*weight, seed=1), normal(channels, seed=2)]
    return Case("ConvTranspose", inputs, attributes, constant=_WEIGHTS, label=label)


CASES = [
    Case("Conv", [_IMAGE, normal(6, 4, 3, 3, seed=1)], constant=_WEIGHTS, label="no bias"),
    _conv((6, 4, 3, 3), "pads", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
    _conv((6, 4, 3, 3), "asymmetric pads", pads=[0, 1, 2, 1], strides=[2, 1]),
    _conv((6, 4, 3, 2), "dilations", dilations=[2, 3], pads=[2, 1, 2, 1]),
    _conv((4, 1, 3, 3), "depthwise", group=4, pads=[1, 1, 1, 1], strides=[2, 2]),
    _conv((6, 2, 3, 3), "groups", group=2),
    *(
        _conv((6, 4, 3, 4), f"{auto_pad}, strides {strides}", auto_pad=auto_pad, strides=strides)
        for auto_pad in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
        for strides in ([1, 1], [2, 3])
    ),
    _conv((6, 4, 3), "1 axis", image=(2, 4, 9), pads=[1, 0], strides=[2]),
    _conv((6, 4, 3, 2, 1), "3 axes", image=(2, 4, 5, 6, 7), pads=[1, 0, 0, 1, 1, 0]),
    Case("ConvTranspose", [normal(2, 4, 5, 6), normal(4, 3, 3, 3, seed=1)], constant=_WEIGHTS, label="no bias"),
    _transposed((4, 3, 3, 3), "strides", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    _transposed((4, 3, 3, 2), "asymmetric pads", strides=[2, 3], pads=[0, 1, 2, 0]),
    _transposed((4, 2, 2, 2), "groups and dilations", group=2, dilations=[2, 1], strides=[1, 2]),
    _transposed((4, 3, 3, 3), "output padding beyond", strides=[3, 3], output_padding=[2, 1]),
    _transposed((4, 3, 3, 3), "output shape", strides=[2, 2], output_shape=[10, 12]),
    _transposed((4, 3, 3, 3), "output shape, upper", strides=[2, 2], output_shape=[10, 12], auto_pad="SAME_UPPER"),
    _transposed((4, 3, 3, 3), "SAME_UPPER", strides=[2, 2], auto_pad="SAME_UPPER"),
    _transposed((4, 3, 3, 3), "SAME_LOWER", strides=[2, 2], auto_pad="SAME_LOWER"),
    _transposed((4, 3, 3, 3), "VALID", strides=[2, 2], auto_pad="VALID"),
    _transposed((4, 3, 3), "1 axis", image=(2, 4, 5), strides=[2], pads=[1, 0]),
    _transposed((4, 3, 3, 2, 2), "3 axes", image=(2, 4, 3, 4, 5), strides=[1, 2, 2], pads=[1, 0, 0, 1, 1, 0]),
]
