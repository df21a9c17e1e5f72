"""Elements by their place."""

import numpy as np

from tests.worker.training.cases.case import Case, normal, scalar, whole

_X = normal(4, 5, 6)
_FAR = 2**63 - 1


def _constant(*places: int) -> frozenset[int]:
    return frozenset(places)


CASES = [
    *(
        Case("Gather", [_X, indices], {"axis": axis}, label=f"axis {axis}, {indices.ndim} axes of indices",
             constant=_constant(1))
        for axis in (0, 1, -1)
        for indices in (scalar(-1), whole(0, -2, 3), whole([0, 1], [-1, 2]))
    ),
    Case("Gather", [whole(2, 3, 4), scalar(1)], label="of a shape", constant=_constant(1)),
    Case("Gather", [_X, whole(1, 0, dtype=np.int32)], label="int32"),
    Case("GatherElements", [_X[0], whole([0, -1, 2, 3, 4, 0], [1, 1, 1, -2, 2, 2])]),
    Case("GatherElements", [_X[0], whole(*([place, -1] for place in range(5)))], {"axis": 1}, label="axis 1"),
    Case("GatherND", [_X, whole([0, 1], [-1, 2])]),
    Case("GatherND", [_X, whole([0, 1, 2], [-1, 2, -3])], label="elements"),
    Case("GatherND", [_X, whole(*([place, -1] for place in range(4)))], {"batch_dims": 1}, since=12, label="batch"),
    Case("GatherND", [_X, np.arange(40).reshape(4, 5, 2, 1) % 6], {"batch_dims": 2}, since=12, label="batch 2"),
    Case("ScatterElements", [_X[0], whole([0, -1, 2]), normal(1, 3)]),
    Case("ScatterElements", [_X[0], whole(*([p, -1] for p in range(5))), normal(5, 2)], {"axis": 1}, label="axis 1"),
    *(
        Case("ScatterElements", [_X[0], whole([0, 1], [0, -1]), normal(2, 2)], {"reduction": reduction},
             since=since, label=reduction)
        for reduction, since in (("add", 16), ("mul", 16), ("min", 18), ("max", 18))
    ),
    Case("ScatterND", [_X, whole([0], [-1]), normal(2, 5, 6)]),
    Case("ScatterND", [_X, whole([[0, 1], [0, -1]]), normal(1, 2, 6)], {"reduction": "add"}, since=16, label="add"),
    Case("Slice", [_X, whole(1), whole(3)], constant=_constant(1, 2)),
    Case("Slice", [_X, whole(1, -4), whole(_FAR, -1), whole(-1, 1)], constant=_constant(1, 2, 3), label="axes"),
    Case("Slice", [_X, whole(-1, 4), whole(-_FAR, 0), whole(2, 1), whole(-2, -1)],
         constant=_constant(1, 2, 3, 4), label="backwards"),
    Case("Slice", [_X, whole(0, 1), whole(_FAR, 5), None, whole(2, 3)], constant=_constant(1, 2, 4), label="steps"),
    Case("Slice", [_X, whole(3), whole(1), whole(1)], constant=_constant(1, 2, 3), label="nothing"),
    *(
        Case("Pad", [_X[0], whole(1, 2, 0, 3)], {"mode": mode}, constant=_constant(1), label=mode)
        for mode in ("constant", "reflect", "edge")
    ),
    Case("Pad", [_X[0], whole(7, 2, 0, 9)], {"mode": "wrap"}, constant=_constant(1), since=19, label="wrap"),
    Case("Pad", [_X, whole(1, 0, 2, 0, 1, 0), scalar(0.5, np.float32)], constant=_constant(1, 2), label="value"),
    Case("Pad", [_X, whole(-1, 0, 2, 0, -2, 0)], constant=_constant(1), label="negative"),
    Case("Pad", [_X, whole(1, 2, 3, 1), scalar(2.0, np.float32), whole(-1, 0)], constant=_constant(1, 2, 3), since=18,
         label="axes"),
    Case("Pad", [_X, whole(1, 2), None, whole(1)], {"mode": "edge"}, constant=_constant(1, 3), since=18,
         label="edge, axes"),
    *(
        Case("Trilu", inputs, {"upper": upper}, constant=_constant(1), label=f"upper {upper}, {len(inputs)} inputs")
        for inputs in ([_X], [_X, scalar(-1)], [_X, scalar(2)])
        for upper in (0, 1)
    ),
    *(
        Case("OneHot", [whole([0, -1, 3], [1, 2, 9]), whole(4), np.array([-1.0, 2.0], np.float32)], {"axis": axis},
             constant=_constant(1, 2), label=f"axis {axis}")
        for axis in (-1, 0, 1)
    ),
    Case("NonZero", [whole([0, 1, 0], [2, 0, 3])]),
]  # fmt: skip
