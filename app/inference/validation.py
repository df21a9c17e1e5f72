"""Whether a request fits the variant that is to answer it, found before anything is computed."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from app.engines import TensorSpec
from app.engines.engine import Array
from app.errors import Invalid
from app.inference.request import RequestedOutput, RequestHeader, TensorHeader
from app.inference.served_variant import ServedVariant
from app.serving.batches import Work, size_of

#: Pairs of a header and a variant whose plans are kept.
_MOST_PLANS = 1024


class Plan:
    """How a variant answers requests of one header.

    Attributes:
        outputs: Those that the client gets, in its order.
        rendered: What faces keep of answers to such requests; they bound it.
    """

    __slots__ = ("_inputs", "_names", "_priority", "_size", "outputs", "rendered")

    def __init__(self, header: RequestHeader, outputs: Sequence[RequestedOutput]) -> None:
        self.outputs = tuple(outputs)
        self.rendered: dict[Any, Any] = {}
        self._inputs = tuple(tensor.name for tensor in header.inputs)
        self._names = tuple(output.name for output in outputs)
        self._priority = header.priority or 0
        self._size = size_of([tensor.shape for tensor in header.inputs])

    def work(self, arrays: Sequence[Array], timeout_us: int | None) -> Work:
        """What is to be computed for a request of these arrays."""
        feeds = dict(zip(self._inputs, arrays, strict=True))
        return Work(feeds, self._names, self._priority, timeout_us, self._size)


def plan_for(variant: ServedVariant, header: RequestHeader) -> Plan:
    """How `variant` answers a request of this header.

    Raises:
        Invalid: The variant has no such inputs or outputs, or does not take their types or shapes.
        Unloaded: The variant was unloaded.
    """
    return _kept_plan(variant, header) if header.is_cached else _new_plan(variant, header)


def _new_plan(variant: ServedVariant, header: RequestHeader) -> Plan:
    variant.check_loaded()
    _check_inputs(variant, header.inputs)
    return Plan(header, _wanted_outputs(variant, header))


# By the identity of both: a variant that changed is another object, and errors are not kept.
_kept_plan = lru_cache(_MOST_PLANS)(_new_plan)


def _check_inputs(variant: ServedVariant, inputs: Sequence[TensorHeader]) -> None:
    specs = {spec.name: spec for spec in variant.inputs}
    seen: set[str] = set()
    for tensor in inputs:
        if tensor.name not in specs:
            raise Invalid(f"unexpected inference input '{tensor.name}' for model '{variant.model}'; {_listed(specs)}")
        if tensor.name in seen:
            raise Invalid(f"input '{tensor.name}' is given twice")
        _check_fits(tensor, specs[tensor.name])
        seen.add(tensor.name)
    missing = [name for name in specs if name not in seen]
    if missing:
        raise Invalid(f"expected {len(specs)} inputs for model '{variant.model}': '{missing[0]}' is missing")


def _listed(specs: Mapping[str, TensorSpec]) -> str:
    return "its inputs are " + ", ".join(f"'{name}'" for name in specs)


def _check_fits(tensor: TensorHeader, spec: TensorSpec) -> None:
    abbreviated = tensor.datatype == "BF16" and spec.datatype == "FP32"
    if tensor.datatype != spec.datatype and not abbreviated:
        raise Invalid(
            f"unexpected datatype {tensor.datatype} for inference input '{spec.name}', expecting {spec.datatype}"
        )
    shape = tensor.shape
    fits = len(shape) == len(spec.shape) and all(
        expected in (-1, got) for expected, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise Invalid(
            f"unexpected shape {list(shape)} for inference input '{spec.name}', expecting {list(spec.shape)}"
            " (-1 is any length)"
        )


def _wanted_outputs(variant: ServedVariant, header: RequestHeader) -> Sequence[RequestedOutput]:
    specs = {spec.name: spec for spec in variant.outputs}
    wanted = header.outputs or tuple(RequestedOutput(name, binary=header.binary_by_default) for name in specs)
    seen: set[str] = set()
    for output in wanted:
        if output.name not in specs:
            raise Invalid(
                f"unexpected inference output '{output.name}' for model '{variant.model}'; its outputs are "
                + ", ".join(f"'{name}'" for name in specs)
            )
        if output.name in seen:
            raise Invalid(f"output '{output.name}' is asked for twice")
        seen.add(output.name)
        _check_has_form(output, specs[output.name].datatype)
    return wanted


def _check_has_form(output: RequestedOutput, datatype: str) -> None:
    if output.classification:
        if datatype in {"BYTES", "BOOL"}:
            raise Invalid(f"output '{output.name}' is not numeric and cannot be classified")
    elif datatype == "FP16" and not output.binary:
        raise Invalid(f"output '{output.name}' is FP16, which has no JSON form; ask for it with binary_data: true")
