"""The table: operator of ONNX → the function that computes it with torch.

Operators of a domain other than ONNX's own are named `domain::operator`. `app.contracts.operators` repeats the names
for the gateway, which does not load torch.
"""

from worker.training.ops import (
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
from worker.training.ops.signature import Operator

OPERATORS: dict[str, Operator] = {
    **activations.OPERATORS,
    **arithmetic.OPERATORS,
    **convolution.OPERATORS,
    **indexing.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **products.OPERATORS,
    **reductions.OPERATORS,
    **resize.OPERATORS,
    **shapes.OPERATORS,
}
