import pytest

from app.serving.steady import is_steady


def test_plain_networks_are_steady() -> None:
    assert is_steady({"Conv": 20, "Relu": 19, "Gemm": 1, "QuantizeLinear": 3})


@pytest.mark.parametrize("governed", ["Loop", "If", "Expand", "NonZero", "com.example::Wait"])
def test_one_operator_that_a_value_governs_is_enough(governed: str) -> None:
    assert not is_steady(["Conv", governed])
