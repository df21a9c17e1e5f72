"""What can be asked of a job: each method with its options, as the API, the form and the CLI show them.

The worker's table of the same names (`worker.methods`) says how each is done.
"""

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app import custom_operators
from app.errors import AlreadyQuantized, Invalid, NotQuantizable
from app.registry.trainable import TRAINABLE_OPERATORS

#: How the range of an activation is found; percentiles say how many of its values, in %, the range holds.
RangeMethod = Literal["auto", "minmax", "percentile_99.9", "percentile_99.99", "percentile_99.999", "entropy", "mse"]


class EvaluateOptions(BaseModel):
    """What every job understands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluation_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=2048, description="At most so many held-out samples are evaluated."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the calibration/evaluation split.")


class Options(EvaluateOptions):
    """What every method that makes a variant understands."""

    max_accuracy_drop: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.01, description="The share of the original's accuracy that may be lost; more, and it is rejected."
    )
    min_speedup: Annotated[float, Field(gt=0.0, le=1000.0)] | None = Field(
        default=None, description="Slower than so many times the original's speed, and it is rejected."
    )


class Fp16Options(Options):
    """Half-precision storage."""


class DynamicOptions(Options):
    """Dynamic INT8: integer weights; activation ranges are found at run time."""

    per_channel: bool = Field(default=True, description="One scale for each output channel of a weight.")


class Int4Options(Options):
    """Weights of matrix products in blocks of 4 or 8 bits; activations stay FP32 outside of the products."""

    bits: Literal[4, 8] = Field(default=4, description="Bits of a weight.")
    block_size: Literal[16, 32, 64, 128, 256] = Field(default=32, description="Weights that share a scale.")
    algorithm: Literal["auto", "rtn", "hqq", "gptq"] = Field(
        default="auto",
        description="`rtn` and `hqq` need no dataset, `gptq` does; `auto` tries them all and keeps what errs least.",
    )
    calibration_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=128, description="At most so many samples calibrate; at most half of the dataset does."
    )


class Int8Options(Options):
    """Static INT8 (QDQ): integer weights and activations, ranges calibrated on a dataset."""

    per_channel: bool = Field(default=True, description="One scale for each output channel of a weight.")
    calibration_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=256, description="At most so many samples calibrate; at most half of the dataset does."
    )
    activation_type: Literal["auto", "uint8", "int8"] = Field(
        default="auto", description="`auto` takes what the CPU of the worker runs fastest."
    )
    activation_bits: Annotated[int, Field(ge=4, le=8)] = Field(
        default=8, description="Bits of an activation, for trying what a narrower device would do; stored in 8."
    )
    calibration: RangeMethod = Field(
        default="auto", description="How activation ranges are found; `auto` takes for each tensor what errs least."
    )
    repair: bool = Field(default=True, description="Try repairs, each kept only when it measurably helps.")


class MixedOptions(Int8Options):
    """INT8 where it pays and FP32 where it harms, found by a search within the budget."""

    search_samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1024, description="At most so many samples, those that calibrate among them, steer the search."
    )
    max_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)] = Field(
        default=60.0, description="The search ends after so many seconds, with the best that it found."
    )
    keep_fp32: list[str] = Field(
        default=[], max_length=10_000, description="Names of nodes that stay in FP32 whatever the search finds."
    )
    high_precision: Literal["fp32", "fp16"] = Field(
        default="fp32", description="How weights outside of INT8 are stored; they compute in FP32 either way."
    )
    point: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="A point of an earlier search, to be made into a variant without a new one."
    )


class QatOptions(Int8Options):
    """Static INT8 whose weights and scales are trained, to answer as the FP32 original does."""

    training_samples: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        default=8192, description="At most so many samples, those that calibrate among them, train; at most half do."
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] = Field(default=20, description="Passes over the training samples.")
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        default=None,
        description="Of the first epochs; it falls to nothing along a cosine. `null` is 3e-5 for activations of 8 bits,"
        " and twice that for each bit less.",
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(default=32, description="Samples in a step.")
    max_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)] = Field(
        default=480.0, description="Training ends after so many seconds, with the best that it found."
    )


@dataclass(frozen=True)
class Method:
    """A row of the table.

    `needs_dataset`: it cannot run without samples. `operators`: the op types it works on; a model with none of
    them is refused at submission. Empty: any model with FP32 weights. `takes_quantized`: also of uploads that are
    quantized already. `makes_variant`: else the job's outcome is the evaluation of the original. `trains`: it needs
    torch, and a model of operators that can be trained through.
    """

    name: str
    summary: str
    options: type[EvaluateOptions]
    needs_dataset: bool = False
    operators: frozenset[str] = field(default_factory=frozenset)
    takes_quantized: bool = False
    makes_variant: bool = True
    trains: bool = False


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "fp16",
            "half-precision weights, FP32 compute: half the size at the same speed",
            Fp16Options,
            takes_quantized=True,
        ),
        Method(
            "dynamic",
            "dynamic INT8: no dataset needed; for models led by MatMul",
            DynamicOptions,
            operators=frozenset({"MatMul", "Gemm"}),
        ),
        Method(
            "int8",
            "static INT8: calibrated on a dataset; the fastest for convolutions",
            Int8Options,
            needs_dataset=True,
            operators=frozenset({"Conv", "MatMul", "Gemm"}),
        ),
        Method(
            "mixed",
            "INT8 that leaves in FP32 what it would harm: searched on a dataset within the budget",
            MixedOptions,
            needs_dataset=True,
            operators=frozenset({"Conv", "MatMul", "Gemm"}),
        ),
        Method(
            "qat",
            "INT8 whose weights and scales are trained on a dataset: where static INT8 loses too much",
            QatOptions,
            needs_dataset=True,
            operators=frozenset({"Conv", "MatMul", "Gemm"}),
            trains=True,
        ),
        Method(
            "int4",
            "4-bit weights in blocks: the smallest; for models led by MatMul, better with a dataset",
            Int4Options,
            operators=frozenset({"MatMul", "Gemm"}),
        ),
    )
}


#: No way to a variant, and so not in the table.
EVALUATE = Method(
    "evaluate",
    "the model as it is: measured on a dataset, nothing made smaller",
    EvaluateOptions,
    takes_quantized=True,
    makes_variant=False,
)

#: All that a job can be asked for.
OFFERED: dict[str, Method] = {**METHODS, EVALUATE.name: EVALUATE}


#: Operators that only models hold which are quantized already, without their domain.
QUANTIZED_OPERATORS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger",
    "ConvInteger", "MatMulNBits",
})  # fmt: skip


def find(name: str) -> Method:
    """What is offered as `name`; raises `Invalid` for what is not."""
    if name not in OFFERED:
        raise Invalid(f"there is no method '{name[:80]}'; there is {', '.join(OFFERED)}", field="method")
    return OFFERED[name]


def checked_options(method: Method, options: dict[str, Any]) -> dict[str, Any]:
    """All options of `method`, defaults filled in; raises `Invalid` naming the one at fault."""
    try:
        return method.options.model_validate(options).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(method.options.model_fields)
        raise Invalid(
            f"option '{name}' of method '{method.name}': {first['msg']}; its options are {known}",
            field=f"options.{name}",
        ) from None


def quantized_operators(operators: Collection[str]) -> list[str]:
    """Those of `operators` that only a quantized model holds, sorted; none for an FP32 one."""
    return sorted(name for name in operators if name.rpartition("::")[2] in QUANTIZED_OPERATORS)


def check_applicable(
    method: Method, operators: dict[str, int], float_bytes: int, nodes: Mapping[str, str] | None = None
) -> None:
    """Raises `NotQuantizable` when a model made of `operators` (op type → count) gives `method` nothing to do.

    Raises `AlreadyQuantized` when it is an integer model, and the method starts from FP32; and `Invalid` when the
    method needs what is not installed. `nodes` names the first node of each operator, where that is known.
    """
    found = quantized_operators(operators)
    if found and not method.takes_quantized:
        raise AlreadyQuantized(method.name, found)
    if not method.makes_variant:
        return
    if float_bytes == 0:
        raise NotQuantizable(f"method '{method.name}' works on FP32 weights, and this model holds none")
    if method.operators and not method.operators & operators.keys():
        raise NotQuantizable(
            f"method '{method.name}' works on {', '.join(sorted(method.operators))}, and this model has none of them;"
            f" it is made of {', '.join(sorted(operators)[:12]) or 'no operator at all'}"
        )
    if method.trains:
        _check_trainable(method, operators, nodes or {})


def _check_trainable(method: Method, operators: Collection[str], nodes: Mapping[str, str]) -> None:
    # Looked for and not imported: the gateway trains nothing.
    if importlib.util.find_spec("torch") is None:
        raise Invalid(
            f"method '{method.name}' trains with torch, which is not installed: pip install 'octet[qat]'",
            field="method",
        )
    for name in sorted(operators):
        if name not in TRAINABLE_OPERATORS and not _is_function(name):
            node = f" (node '{nodes[name]}')" if nodes.get(name) else ""
            raise NotQuantizable(
                f"method '{method.name}' does not know how to train through operator '{name}'{node};"
                " methods 'int8' and 'mixed' take any"
            )


def _is_function(name: str) -> bool:
    """Whether `name` is a function of the model's own, what it is made of being counted by itself."""
    domain, separator, _ = name.rpartition("::")
    return bool(separator) and domain not in custom_operators.runnable_domains()
