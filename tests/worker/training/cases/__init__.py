"""At least one use of every operator that can be trained."""

from tests.worker.training.cases import (
    activations,
    arithmetic,
    convolution,
    indexing,
    normalization,
    pooling,
    products,
    reductions,
    resize,
    shapes,
)
from tests.worker.training.cases.case import Case

CASES: list[Case] = [
    case
    for module in (
        activations, arithmetic, convolution, indexing, normalization, pooling, products, reductions, resize, shapes,
    )
    for case in module.CASES
]  # fmt: skip

#: The name of an operator → its cases.
BY_OPERATOR: dict[str, list[Case]] = {}
for _case in CASES:
    BY_OPERATOR.setdefault(_case.operator, []).append(_case)
