"""An ONNX graph as a torch module: what is trained computes what is served, node by node, under the same names."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal, get_args, get_origin

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.errors import NotQuantizable
from worker.onnx_files import array
from worker.operators import DEFAULT_DOMAINS
from worker.training.ops import OPERATORS
from worker.training.ops.signature import Floats, Ints, Operator, Refused, Tensors

Transform = Callable[[str, Tensor], Tensor]

_Values = dict[str, Tensor]
_Reader = Callable[[_Values], Any]


class UnsupportedOperator(NotQuantizable):
    """The graph holds an operator, or uses one in a way, that cannot be trained here."""

    def __init__(self, operator: str, node: str, reason: str | None = None) -> None:
        detail = f" with {reason}" if reason else ""
        super().__init__(
            f"node '{node}' is of the operator {operator}{detail}, which cannot be trained here; static INT8 does"
            " without training"
        )
        self.operator = operator
        self.node = node


@dataclass(frozen=True)
class _Step:
    """A node, bound: where its arguments are found, what computes it, and which tensors nobody reads after it."""

    node: str
    operator: str
    compute: Callable[..., Any]
    readers: tuple[_Reader, ...]
    outputs: tuple[str, ...]
    several: bool
    last_reads: tuple[str, ...]

    def run(self, values: _Values) -> Iterator[tuple[str, Tensor]]:
        """Each output that the node names, with its value."""
        try:
            result = self.compute(*(read(values) for read in self.readers))
        except Refused as refusal:
            raise UnsupportedOperator(self.operator, self.node, str(refusal)) from refusal
        except Exception as error:
            error.add_note(f"in node '{self.node}' ({self.operator})")
            raise
        pairs = zip(self.outputs, result if self.several else (result,), strict=False)
        return ((name, value) for name, value in pairs if name)


class OnnxModule(torch.nn.Module):
    """An ONNX graph as a torch module that computes on the CPU.

    Constants of floating point, initializers and Constant nodes alike, are its parameters, under the names that ONNX
    has for them; those of FP32 can be trained. Two kinds of constants are none: integers, and numbers that are settings
    of a node rather than operands of it (bounds of a Clip, scales of a Resize), which are read once.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Takes a copy of the weights of `model`, which must be in memory.

        Raises `UnsupportedOperator` for the first node that cannot be trained, `NotQuantizable` for a constant of
        a type that torch has not.
        """
        super().__init__()
        graph = model.graph
        opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
        arrays = dict(_constants(graph))
        nodes = [node for node in graph.node if not _is_constant(node)]
        self.output_names = tuple(argument.name for argument in graph.output)
        self.input_names = tuple(argument.name for argument in graph.input if argument.name not in arrays)
        last_reads = _last_reads(nodes, self.output_names)
        bindings = [_Binding(node, opsets.get(_domain(node.domain), 1), arrays) for node in nodes]
        self._steps = [binding.step(last_reads[place]) for place, binding in enumerate(bindings)]

        operands = {name for binding in bindings for name in binding.operands} | set(self.output_names)
        self._slots: dict[str, str] = {}
        self._constants: _Values = {}
        for name in operands & arrays.keys():
            value = _tensor(name, arrays[name])
            if value.is_floating_point():
                # torch takes no dot in the name of a parameter, ONNX's names hold them.
                self._slots[name] = f"initializer_{len(self._slots)}"
                trainable = value.dtype == torch.float32
                self.register_parameter(self._slots[name], torch.nn.Parameter(value, requires_grad=trainable))
            else:
                self._constants[name] = value

    @property
    def initializers(self) -> dict[str, torch.nn.Parameter]:
        """The parameters by their names in ONNX."""
        return {name: self._parameters[slot] for name, slot in self._slots.items()}

    def parameter(self, name: str) -> torch.nn.Parameter:
        """The parameter that ONNX calls `name`; raises `KeyError` where there is none."""
        return self._parameters[self._slots[name]]

    def forward(
        self,
        feeds: Mapping[str, Tensor],
        transform: Transform | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> list[Tensor]:
        """The outputs, in the graph's order, for `feeds`, which name every input.

        `transform` is given each input and each output of a node by its name in ONNX, where it is of floating point,
        and what it returns takes its place: fake quantization of activations. `weights` take the place of parameters
        of those names in this call: fake quantization of weights.
        """
        unknown = (weights or {}).keys() - self._slots.keys()
        if unknown:
            raise KeyError(f"no parameters are called {', '.join(sorted(unknown))}")
        values: _Values = {**self._constants, **self.initializers, **(weights or {})}
        for name in self.input_names:
            values[name] = _transformed(transform, name, feeds[name])
        for step in self._steps:
            for name, value in step.run(values):
                values[name] = _transformed(transform, name, value)
            for name in step.last_reads:
                del values[name]
        return [values[name] for name in self.output_names]


def tensors(feeds: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Arrays as `OnnxModule` takes them: copies, as arrays may be read-only, and torch knows no such tensors."""
    return {name: torch.tensor(values) for name, values in feeds.items()}


def _transformed(transform: Transform | None, name: str, value: Tensor) -> Tensor:
    return value if transform is None or not value.is_floating_point() else transform(name, value)


class _Binding:
    """A node and the function that computes it, joined by the function's signature (see `ops.signature`)."""

    def __init__(self, node: onnx.NodeProto, opset: int, constants: Mapping[str, NDArray[Any]]) -> None:
        self._node = node
        self._name = node.name or (node.output[0] if node.output else "")
        self._constants = constants
        self._operator = node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}::{node.op_type}"
        if self._operator not in OPERATORS:
            raise UnsupportedOperator(self._operator, self._name)
        self._function: Operator = OPERATORS[self._operator]
        self._signature = inspect.signature(self._function)
        self._settings = self._checked_settings(opset)
        self._arguments = self._checked_arguments()

    @property
    def operands(self) -> set[str]:
        """The tensors that the node reads as such."""
        return {
            name
            for name, annotation in self._arguments
            if name and (_is_tensor(annotation) or name not in self._constants)
        }

    def step(self, last_reads: tuple[str, ...]) -> _Step:
        several = self._signature.return_annotation == Tensors
        if not several and any(self._node.output[1:]):
            raise UnsupportedOperator(self._operator, self._name, f"{len(self._node.output)} outputs")
        return _Step(
            node=self._name,
            operator=self._operator,
            compute=partial(self._function, **self._settings),
            readers=tuple(self._reader(name, annotation) for name, annotation in self._arguments),
            outputs=tuple(self._node.output),
            several=several,
            last_reads=last_reads,
        )

    def _checked_settings(self, opset: int) -> dict[str, Any]:
        """The attributes, and what else the function asks for by name."""
        given: dict[str, Any] = {}
        for attribute in self._node.attribute:
            parameter = self._signature.parameters.get(attribute.name)
            if parameter is None:
                raise UnsupportedOperator(self._operator, self._name, f"the attribute {attribute.name}")
            value = _plain(onnx.helper.get_attribute_value(attribute), attribute.name)
            if get_origin(parameter.annotation) is Literal and value not in get_args(parameter.annotation):
                raise UnsupportedOperator(self._operator, self._name, f"{attribute.name}={value}")
            given[attribute.name] = value
        ours = {"opset": opset, "outputs": len(self._node.output)}
        return given | {name: value for name, value in ours.items() if name in self._signature.parameters}

    def _checked_arguments(self) -> list[tuple[str, Any]]:
        """Each input, empty where an optional one is left out, with the annotation of its parameter."""
        names = list(self._node.input)
        while names and not names[-1]:
            names.pop()
        try:
            self._signature.bind(*names, **self._settings)
        except TypeError as error:
            raise UnsupportedOperator(self._operator, self._name, f"these inputs and attributes ({error})") from error
        # Of a variadic operator the last of these parameters stands for all further inputs.
        parameters = [each for each in self._signature.parameters.values() if each.kind is not each.KEYWORD_ONLY]
        return [(name, parameters[min(place, len(parameters) - 1)].annotation) for place, name in enumerate(names)]

    def _reader(self, name: str, annotation: Any) -> _Reader:
        if not name:
            return lambda values: None
        if _is_tensor(annotation):
            return itemgetter(name)
        as_python = _as_list if annotation in _LISTS else _as_number
        if name in self._constants:
            constant = as_python(self._constants[name])
            return lambda values: constant
        return lambda values: as_python(values[name])


_LISTS = (Ints, Ints | None, Floats, Floats | None)


def _is_tensor(annotation: Any) -> bool:
    return annotation in (Tensor, Tensor | None)


def _as_list(values: Any) -> Any:
    """The elements of an array or tensor as a list."""
    return values.reshape(-1).tolist()


def _as_number(values: Any) -> Any:
    """The only element of an array or tensor."""
    return values.item()


def _plain(value: Any, name: str) -> Any:
    """An attribute as the functions take it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return _tensor(name, array(value))
    return value


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else domain


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, NDArray[Any]]]:
    """Initializers and Constant nodes, by name."""
    for tensor in graph.initializer:
        yield tensor.name, array(tensor)
    for node in graph.node:
        if _is_constant(node):
            yield node.output[0], _constant(node)


def _constant(node: onnx.NodeProto) -> NDArray[Any]:
    """The value of a Constant, which has one attribute of several."""
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return array(value)
    if attribute.name in {"value_float", "value_floats"}:
        return np.array(value, np.float32)
    if attribute.name in {"value_int", "value_ints"}:
        return np.array(value, np.int64)
    raise UnsupportedOperator("Constant", node.name or node.output[0], f"the attribute {attribute.name}")


def _tensor(name: str, values: NDArray[Any]) -> Tensor:
    """A copy of `values`, which may lie in memory that is not ours to write to."""
    if values.dtype.name == "bfloat16":
        # numpy's bfloat16 is an extension's, which torch does not know.
        return torch.tensor(values.astype(np.float32)).to(torch.bfloat16)
    try:
        return torch.tensor(values)
    except TypeError as error:
        raise NotQuantizable(f"constant '{name}' is of type {values.dtype}, which cannot be trained with") from error


def _last_reads(nodes: list[onnx.NodeProto], outputs: tuple[str, ...]) -> list[tuple[str, ...]]:
    """For each of `nodes` the results of nodes that none after it reads, its own that none reads included."""
    last: dict[str, int] = {}
    for place, node in enumerate(nodes):
        last |= dict.fromkeys(node.output, place)
        last |= {name: place for name in node.input if name in last}
    released: list[list[str]] = [[] for _ in nodes]
    for name, place in last.items():
        if name and name not in outputs:
            released[place].append(name)
    return [tuple(names) for names in released]
