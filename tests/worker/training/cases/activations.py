"""Activation functions."""

from tests.worker.training.cases.case import Case, normal

_X = normal(2, 3, 4, scale=3)

_BOTH = {
    "Celu": {"alpha": 1.5},
    "Elu": {"alpha": 0.7},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "LeakyRelu": {"alpha": 0.2},
    "Selu": {"alpha": 1.2, "gamma": 0.9},
    "Shrink": {"bias": 0.3, "lambd": 1.0},
    "ThresholdedRelu": {"alpha": 0.5},
    "com.microsoft::QuickGelu": {"alpha": 1.3},
}
_PLAIN = ["Gelu", "HardSwish", "Mish", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh", "com.microsoft::Gelu"]

CASES = [
    *(Case(operator, [_X]) for operator in (*_PLAIN, *_BOTH)),
    *(Case(operator, [_X], attributes, label="attributes") for operator, attributes in _BOTH.items()),
    Case("Gelu", [_X], {"approximate": "tanh"}, label="tanh"),
    Case("PRelu", [_X, normal(3, 1, seed=1)], constant=frozenset({1})),
    Case("PRelu", [_X, normal(1, seed=1)], constant=frozenset({1}), label="shared"),
    *(
        Case(operator, [_X], {} if axis is None else {"axis": axis}, label=f"axis {axis}")
        for operator in ("Softmax", "LogSoftmax")
        for axis in (None, 0, 1, 2, -1, -2)
    ),
]
