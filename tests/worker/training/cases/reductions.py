"""Reductions, and what looks for extremes."""

import numpy as np

from tests.worker.training.cases.case import Case, positive, scalar, whole

_X = positive(2, 3, 4)
_TIES = np.array([[3, 1, 3, 2], [1, 1, 1, 1], [0, 5, 5, 5]], np.float32)
_SECOND = frozenset({1})

_REDUCTIONS = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
]  # fmt: skip


def _until_axes_became_an_input(operator: str) -> int:
    return 12 if operator == "ReduceSum" else 17


CASES = [
    *(Case(operator, [_X], label="all axes") for operator in _REDUCTIONS),
    *(Case(operator, [_X], {"keepdims": 0}, label="to a scalar") for operator in _REDUCTIONS),
    *(
        Case(operator, [_X], {"axes": [0, -1], "keepdims": keep}, until=_until_axes_became_an_input(operator),
             label=f"axes as attribute, keepdims {keep}")
        for operator in _REDUCTIONS
        for keep in (0, 1)
    ),
    *(
        Case(operator, [_X, whole(-3, 2)], {"keepdims": keep}, since=_until_axes_became_an_input(operator) + 1,
             constant=_SECOND, label=f"axes as input, keepdims {keep}")
        for operator in _REDUCTIONS
        for keep in (0, 1)
    ),
    *(
        Case(operator, [_X, whole()], {"noop_with_empty_axes": noop}, since=_until_axes_became_an_input(operator) + 1,
             constant=_SECOND, label=f"no axes, noop {noop}")
        for operator in ("ReduceSum", "ReduceMean")
        for noop in (0, 1)
    ),
    *(
        Case(operator, [whole([-4, 2, 7], [1, -1, 1])], label="int64")
        for operator in ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
    ),
    *(
        Case(operator, [_TIES], attributes, label=f"{attributes}")
        for operator in ("ArgMax", "ArgMin")
        for attributes in ({}, {"axis": 1}, {"axis": -1, "keepdims": 0})
    ),
    *(
        Case(operator, [_TIES], {"axis": 1, "select_last_index": 1}, label="last", since=12)
        for operator in ("ArgMax", "ArgMin")
    ),
    Case("TopK", [_TIES, whole(2)], outputs=2, constant=_SECOND),
    Case("TopK", [_TIES, whole(3)], {"axis": 0, "largest": 0, "sorted": 1}, outputs=2, constant=_SECOND, label="least"),
    *(
        Case("CumSum", [_X, scalar(axis)], {"exclusive": exclusive, "reverse": reverse}, constant=_SECOND,
             label=f"axis {axis}, exclusive {exclusive}, reverse {reverse}")
        for axis in (0, -1)
        for exclusive in (0, 1)
        for reverse in (0, 1)
    ),
]  # fmt: skip
