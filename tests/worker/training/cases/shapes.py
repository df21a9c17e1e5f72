"""Shapes."""

import numpy as np
from onnx import numpy_helper

from tests.worker.training.cases.case import Case, normal, scalar, whole

_X = normal(2, 3, 4)
_THIN = normal(1, 3, 1, 4)
_IMAGE = normal(2, 12, 3, 5)
_SECOND = frozenset({1})

CASES = [
    Case("Constant", [], {"value": numpy_helper.from_array(_X)}, label="tensor"),
    Case("Constant", [], {"value_float": 1.5}, label="float", since=12),
    Case("Constant", [], {"value_floats": [1.5, 2.5]}, label="floats", since=12),
    Case("Constant", [], {"value_int": 3}, label="int", since=12),
    Case("Constant", [], {"value_ints": [3, 4]}, label="ints", since=12),
    Case("Shape", [_X]),
    Case("Shape", [_X], {"start": 1}, since=15, label="from"),
    Case("Shape", [_X], {"start": -3, "end": -1}, since=15, label="from to"),
    Case("Size", [_X]),
    Case("Reshape", [_X, whole(0, -1)], constant=_SECOND),
    Case("Reshape", [_X, whole(4, 6)], constant=_SECOND, label="plain"),
    Case("Reshape", [normal(0, 3), whole(3, 0)], {"allowzero": 1}, constant=_SECOND, since=14, label="allowzero"),
    *(Case("Flatten", [_X], {"axis": axis}, label=f"axis {axis}") for axis in (0, 1, 2, 3, -1)),
    Case("Flatten", [_X]),
    Case("Transpose", [_X]),
    Case("Transpose", [_X], {"perm": [1, 2, 0]}, label="perm"),
    Case("Squeeze", [_THIN]),
    Case("Squeeze", [_THIN], {"axes": [0, -2]}, until=12, label="attribute"),
    Case("Squeeze", [_THIN, whole(0, -2)], constant=_SECOND, since=13, label="input"),
    Case("Unsqueeze", [_X], {"axes": [0, -1]}, until=12, label="attribute"),
    Case("Unsqueeze", [_X, whole(-1, 0)], constant=_SECOND, since=13, label="input"),
    Case("Expand", [_THIN, whole(5, 1, 2, 1)], constant=_SECOND),
    Case("Expand", [normal(3, 1), whole(2, 1, 6)], constant=_SECOND, label="more axes"),
    Case("Tile", [_X, whole(1, 2, 3)], constant=_SECOND),
    Case("Concat", [_X, normal(2, 1, 4, seed=1)], {"axis": 1}),
    Case("Concat", [_X, _X, _X], {"axis": -1}, label="three"),
    Case("Split", [normal(6, 4)], outputs=3, label="equal", until=17),
    Case("Split", [normal(4, 6)], {"axis": -1, "split": [1, 2, 3]}, outputs=3, until=12, label="attribute"),
    Case("Split", [normal(4, 6), whole(1, 2, 3)], {"axis": 1}, outputs=3, constant=_SECOND, since=13, label="input"),
    Case("Split", [normal(7, 4)], {"num_outputs": 3}, outputs=3, since=18, label="num_outputs"),
    Case("Range", [scalar(2), scalar(11), scalar(3)], constant=frozenset({0, 2})),
    Case("Range", [scalar(value, np.float32) for value in (1.0, -2.0, -0.5)], label="float"),
    Case("ConstantOfShape", [whole(2, 3)]),
    Case("ConstantOfShape", [whole(2, 3)], {"value": numpy_helper.from_array(whole(7))}, label="int64"),
    Case("ConstantOfShape", [whole()], {"value": numpy_helper.from_array(whole(7))}, label="scalar"),
    Case("DepthToSpace", [_IMAGE], {"blocksize": 2}),
    Case("DepthToSpace", [_IMAGE], {"blocksize": 2, "mode": "CRD"}, label="CRD"),
    Case("SpaceToDepth", [normal(2, 3, 4, 6)], {"blocksize": 2}),
]
