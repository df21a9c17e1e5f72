"""Pools."""

from tests.worker.training.cases.case import Case, normal

_IMAGE = normal(2, 3, 9, 8)


def _pools(label: str, *, since: int = 11, x: object = None, **attributes: object) -> list[Case]:
    image = _IMAGE if x is None else x
    return [
        Case(operator, [image], attributes, since=since, label=label)  # type: ignore[list-item]
        for operator in ("MaxPool", "AveragePool")
    ]


CASES = [
    *_pools("plain", kernel_shape=[3, 2]),
    *_pools("strides and pads", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    *_pools("asymmetric pads", kernel_shape=[3, 4], strides=[2, 3], pads=[0, 2, 2, 1]),
    *_pools("ceil_mode", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    *_pools("SAME_UPPER", kernel_shape=[3, 2], strides=[2, 1], auto_pad="SAME_UPPER"),
    *_pools("SAME_LOWER", kernel_shape=[3, 2], strides=[2, 1], auto_pad="SAME_LOWER"),
    *_pools("VALID", kernel_shape=[3, 2], strides=[2, 1], auto_pad="VALID"),
    *_pools("1 axis", x=normal(2, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 0]),
    *_pools("3 axes", x=normal(2, 3, 5, 6, 7), kernel_shape=[3, 2, 1], strides=[2, 1, 1], pads=[1, 0, 0, 1, 1, 0]),
    Case("MaxPool", [_IMAGE], {"kernel_shape": [3, 2], "dilations": [2, 3], "storage_order": 0}, label="dilations"),
    *(
        Case("AveragePool", [_IMAGE], {"kernel_shape": [3, 3], "pads": pads, "count_include_pad": 1}, label=f"{pads}")
        for pads in ([1, 1, 1, 1], [0, 1, 2, 0])
    ),
    *(
        Case("AveragePool", [_IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1,
                                       "count_include_pad": include}, since=19, label=f"ceil_mode, include {include}")
        for include in (0, 1)
    ),
    Case("GlobalAveragePool", [_IMAGE]),
    Case("GlobalMaxPool", [_IMAGE]),
    Case("GlobalAveragePool", [normal(2, 3, 4)], label="1 axis"),
    Case("GlobalMaxPool", [normal(2, 3, 4, 5, 2)], label="3 axes"),
]  # fmt: skip
