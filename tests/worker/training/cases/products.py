"""Products of matrices."""

from tests.worker.training.cases.case import Case, normal, whole

_SECOND = frozenset({1})

CASES = [
    *(
        Case("MatMul", [normal(*left), normal(*right, seed=1)], constant=_SECOND, label=f"{left} {right}")
        for left, right in (
            ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4, 5)), ((2, 3, 4), (4,)),
            ((4,), (4,)),
        )
    ),
    Case("MatMul", [whole([1, 2], [3, 4]), whole([1, -1], [2, 0])], label="int64"),
    Case("Gemm", [normal(3, 4), normal(4, 5, seed=1), normal(5, seed=2)], constant=frozenset({1, 2})),
    Case("Gemm", [normal(3, 4), normal(4, 5, seed=1)], {"alpha": 0.5}, constant=_SECOND, label="no bias"),
    Case("Gemm", [normal(4, 3), normal(5, 4, seed=1), normal(3, 1, seed=2)],
         {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}, constant=frozenset({1, 2}), label="all attributes"),
    Case("Gemm", [normal(3, 4), normal(4, 5, seed=1), normal(seed=2)], constant=frozenset({1, 2}), label="scalar bias"),
    Case("Einsum", [normal(2, 3, 4), normal(2, 4, 5)], {"equation": "bij, bjk -> bik"}),
    Case("Einsum", [normal(2, 3, 4), normal(4, 5)], {"equation": "...j,jk->...k"}, label="ellipsis"),
    Case("Einsum", [normal(3, 3)], {"equation": "ii"}, label="trace"),
]  # fmt: skip
