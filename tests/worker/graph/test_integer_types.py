"""Types that suit the CPU."""

import pytest

from app.engines.cpu import Cpu
from tests.worker.models import ARM, NO_VNNI, VNNI
from worker.graph.integer_types import choose, choose_dynamic


@pytest.mark.parametrize(
    ("cpu", "activation", "reduce_range"), [(VNNI, "uint8", False), (NO_VNNI, "uint8", True), (ARM, "int8", False)]
)
def test_auto_takes_what_the_cpu_multiplies_fastest_and_exactly(cpu: Cpu, activation: str, reduce_range: bool) -> None:
    types = choose(cpu)
    assert (types.activation, types.reduce_range) == (activation, reduce_range)
    assert types.reason.startswith(f"{activation} activations")


@pytest.mark.parametrize("wish", ["uint8", "int8"])
def test_a_wish_is_granted_and_still_exact(wish: str) -> None:
    assert choose(ARM, wish).activation == wish  # type: ignore[arg-type]
    assert choose(NO_VNNI, wish).reduce_range  # type: ignore[arg-type]


def test_dynamic_activations_are_unsigned_on_every_cpu() -> None:
    assert {choose_dynamic(cpu).activation for cpu in (VNNI, NO_VNNI, ARM)} == {"uint8"}
    assert choose_dynamic(NO_VNNI).reduce_range
    assert not choose_dynamic(VNNI).reduce_range
