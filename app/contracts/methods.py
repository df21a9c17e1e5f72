"""The methods that a job can use: one row each, with its options, as the API, the form and the CLI show them.

The file of the same name in `worker.methods` does it.
"""

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from app import custom_operators
from app.contracts.operators import COMPUTING, MATRIX_PRODUCTS, TRAINABLE_OPERATORS, quantized_operators
from app.contracts.options import (
    DynamicOptions,
    EvaluateOptions,
    Fp16Options,
    Int4Options,
    Int8Options,
    MixedOptions,
    QatOptions,
)
from app.errors import AlreadyQuantized, Invalid, NotQuantizable


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: As clients give it. The worker's module `worker.methods.NAME` does the work.
        summary: One line for people.
        options: What clients may set.
        needs_dataset: It cannot run without samples.
        operators: The op types it works on; a model with none of them is refused at submission. Empty: any model with
            FP32 weights.
        takes_quantized: It also works on uploads that are quantized already.
        makes_variant: Else the job's outcome is the evaluation of the original.
        trains: It needs torch, and a model of operators that can be trained through.
        reserves: Options that count samples. So many samples are kept from evaluation for the method.
        long_stage: A stage of its own between `quantize` and `gate`, which takes most of the job's time.
        promise: The form proposes the method with the highest number that was not used on the model yet.
    """

    name: str
    summary: str
    options: type[EvaluateOptions]
    needs_dataset: bool = False
    operators: frozenset[str] = field(default_factory=frozenset)
    takes_quantized: bool = False
    makes_variant: bool = True
    trains: bool = False
    reserves: tuple[str, ...] = ()
    long_stage: str | None = None
    promise: int = 0


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
            operators=MATRIX_PRODUCTS,
            promise=1,
        ),
        Method(
            "int8",
            "static INT8: calibrated on a dataset; the fastest for convolutions",
            Int8Options,
            needs_dataset=True,
            operators=COMPUTING,
            reserves=("calibration_samples",),
            promise=3,
        ),
        Method(
            "mixed",
            "INT8 that leaves in FP32 what it would harm: searched on a dataset within the budget",
            MixedOptions,
            needs_dataset=True,
            operators=COMPUTING,
            reserves=("calibration_samples", "search_samples"),
            long_stage="search",
            promise=2,
        ),
        Method(
            "qat",
            "INT8 whose weights and scales are trained on a dataset: where static INT8 loses too much",
            QatOptions,
            needs_dataset=True,
            operators=COMPUTING,
            trains=True,
            reserves=("calibration_samples", "training_samples"),
            long_stage="train",
        ),
        Method(
            "int4",
            "4-bit weights in blocks: the smallest; for models led by MatMul, better with a dataset",
            Int4Options,
            operators=MATRIX_PRODUCTS,
            reserves=("calibration_samples",),
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
                f" methods {_taking_any_operator()} take any"
            )


def _taking_any_operator() -> str:
    """The methods that do with a dataset what training does, without it."""
    return " and ".join(f"'{row.name}'" for row in METHODS.values() if row.needs_dataset and not row.trains)


def _is_function(name: str) -> bool:
    """Whether `name` is a function of the model's own, what it is made of being counted by itself."""
    domain, separator, _ = name.rpartition("::")
    return bool(separator) and domain not in custom_operators.runnable_domains()
