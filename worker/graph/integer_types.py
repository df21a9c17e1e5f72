"""Which integer types a graph gets: those that the CPU at hand multiplies fastest without overflowing."""

from dataclasses import dataclass
from typing import Literal

from app.engines.cpu import Cpu

ActivationType = Literal["uint8", "int8"]


@dataclass(frozen=True)
class IntegerTypes:
    """Weights are always symmetric S8. `reduce_range`: weights use 7 of the 8 bits.

    `activation_bits`: so many of the 8 bits of an activation are used.
    """

    activation: ActivationType
    reduce_range: bool
    reason: str
    activation_bits: int = 8

    @property
    def levels(self) -> int:
        """How many values an activation takes."""
        return int(2**self.activation_bits)


def choose(cpu: Cpu, wish: Literal["auto", "uint8", "int8"] = "auto", activation_bits: int = 8) -> IntegerTypes:
    """The types for `cpu`: its fastest, or the activation type asked for with what it takes to be exact there.

    x86 multiplies U8 by S8. With VNNI sums go straight to 32 bits; without, pairs are added in 16 bits first and
    saturate, unless the weights leave a bit free (onnxruntime's documentation on quantization, "reduce_range").
    """
    saturates = _is_x86(cpu) and not cpu.vnni
    fastest: ActivationType = "uint8" if _is_x86(cpu) else "int8"
    activation = fastest if wish == "auto" else wish
    reason = f"{activation} activations: " + (
        "as asked for" if wish != "auto" else f"what {cpu.architecture} CPUs multiply fastest"
    )
    return IntegerTypes(activation, saturates, reason + _bits(cpu, saturates), activation_bits)


def choose_dynamic(cpu: Cpu) -> IntegerTypes:
    """The types of dynamic kernels, which leave no choice but the bits of the weights."""
    saturates = _is_x86(cpu) and not cpu.vnni
    return IntegerTypes(
        "uint8", saturates, "uint8 activations: the dynamic kernels take no other" + _bits(cpu, saturates)
    )


def _is_x86(cpu: Cpu) -> bool:
    return cpu.architecture.lower() in {"x86_64", "amd64", "i686", "i386"}


def _bits(cpu: Cpu, saturates: bool) -> str:
    if saturates:
        return "; 7-bit weights: this CPU lacks VNNI, and sums of products would saturate at 16 bits"
    return "; 8-bit weights: this CPU has VNNI, and sums of products are exact" if cpu.vnni else ""
