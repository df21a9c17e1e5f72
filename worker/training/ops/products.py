"""Products of matrices."""

import torch
from torch import Tensor

from worker.training.ops.signature import Operator, binary


def _gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803
) -> Tensor:
    """`alpha`·A·B + `beta`·C, of (rows, inner), (inner, columns) and what broadcasts to (rows, columns)."""
    a, b = a.t() if transA else a, b.t() if transB else b
    if c is None:
        return alpha * (a @ b)
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


def _einsum(*values: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *values)


OPERATORS: dict[str, Operator] = {"Einsum": _einsum, "Gemm": _gemm, "MatMul": binary(torch.matmul)}
