"""Normalizations."""

from tests.worker.training.cases.case import Case, normal, positive

_IMAGE = normal(2, 6, 5, 4)
_ROWS = normal(2, 3, 8)

CASES = [
    Case("BatchNormalization", [_IMAGE, positive(6), normal(6), normal(6, seed=1), positive(6, seed=1)],
         {"epsilon": 1e-3, "momentum": 0.8}, constant=frozenset({1, 2, 3, 4})),
    Case("BatchNormalization", [normal(4, 6), positive(6), normal(6), normal(6, seed=1), positive(6, seed=1)],
         constant=frozenset({1, 2, 3, 4}), label="rows"),
    Case("LayerNormalization", [_ROWS, normal(8, seed=1), normal(8, seed=2)], {"epsilon": 1e-3}),
    Case("LayerNormalization", [_ROWS, normal(8, seed=1)], {"axis": 2, "stash_type": 1}, label="no bias"),
    Case("LayerNormalization", [_ROWS, normal(3, 8, seed=1), normal(3, 8, seed=2)], {"axis": 1}, label="two axes"),
    Case("InstanceNormalization", [_IMAGE, normal(6, seed=1), normal(6, seed=2)], {"epsilon": 1e-3}),
    Case("InstanceNormalization", [normal(2, 6, 7), normal(6, seed=1), normal(6, seed=2)], label="1 axis"),
    Case("GroupNormalization", [_IMAGE, normal(3, seed=1), normal(3, seed=2)], {"num_groups": 3}, since=18, until=20,
         label="by group"),
    Case("GroupNormalization", [_IMAGE, normal(6, seed=1), normal(6, seed=2)], {"num_groups": 3, "epsilon": 1e-3},
         since=21),
    *(
        Case("LpNormalization", [_ROWS], {"axis": axis, "p": p}, label=f"axis {axis}, p {p}")
        for axis in (-1, 1)
        for p in (1, 2)
    ),
    *(Case("LRN", [_IMAGE], {"size": size, "alpha": 0.5, "bias": 2.0}, label=f"{size}") for size in (1, 3, 5)),
    Case("MeanVarianceNormalization", [_IMAGE]),
    Case("MeanVarianceNormalization", [_IMAGE], {"axes": [1, 2]}, label="axes"),
]  # fmt: skip
