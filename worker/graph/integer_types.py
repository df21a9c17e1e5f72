"""Which integer types a graph gets: those that the CPU at hand multiplies fastest without overflowing."""

from dataclasses import dataclass
from typing import Literal

from app.engines.cpu import Cpu

ActivationType = Literal["uint8", "int8"]


@dataclass(frozen=True)
class IntegerTypes:
    """Weights are always symmetric S8. `reduce_range`: weights use 7 of the 8 bits."""

    activation: ActivationType
    reduce_range: bool
    reason: str


def choose(cpu: Cpu, wish: Literal["auto", "uint8", "int8"] = "auto") -> IntegerTypes:
    """The types for `cpu`, or the activation type asked for with what it takes to be exact there.

    x86 multiplies U8 by S8. With VNNI sums go straight to 32 bits; without, pairs are added in 16 bits first and
    saturate, unless the weights leave a bit free (onnxruntime's documentation on quantization, "reduce_range").
    """
    is_x86 = cpu.architecture.lower() in {"x86_64", "amd64", "i686", "i386"}
    if wish == "int8":
        return IntegerTypes("int8", False, "S8 activations, as asked for")
    if is_x86 and cpu.vnni:
        return IntegerTypes("uint8", False, "U8 activations: this CPU has VNNI, which multiplies U8 by S8 exactly")
    if is_x86:
        return IntegerTypes(
            "uint8", True, "U8 activations and 7-bit weights: this CPU lacks VNNI and would saturate at 16 bits"
        )
    if wish == "uint8":
        return IntegerTypes("uint8", False, "U8 activations, as asked for")
    return IntegerTypes("int8", False, f"S8 activations: what {cpu.architecture} CPUs multiply fastest")
