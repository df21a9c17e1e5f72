"""The structure of a model: operator sets, operators, functions, inputs and outputs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.checker import ValidationError
from onnx.defs import onnx_opset_version
from onnx.shape_inference import InferenceError

from app.custom_operators import STANDARD_DOMAINS, runnable_domains
from app.engines.engine import TensorSpec
from app.errors import InvalidModel, TooLarge
from app.intake.onnx_walk import Found

#: A graph nested as deep takes loaders a time that doubles with each level.
MAX_DEPTH = 16
#: Functions that call functions unfold exponentially when a runtime inlines them.
MAX_CALL_DEPTH = 64
MAX_UNFOLDED_NODES = 1_000_000

_NEWEST = {"": onnx_opset_version(), "ai.onnx.ml": onnx.defs.C.schema_version_map()["ai.onnx.ml"][1]}

_DATATYPES: dict[int, str] = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}
#: What ONNX's C++ code raises for a model that it finds fault with.
_FAULTS = (ValidationError, InferenceError, RuntimeError, ValueError, TypeError, IndexError)

#: Names of nodes are for people, and may be of any length.
_LONGEST_NODE_NAME = 200

Function = tuple[str, str, str]


class OperatorCounter:
    """Counts the operators of a model as a walk meets its nodes, and refuses those nothing here can run."""

    def __init__(self, functions: Iterable[FunctionProto]) -> None:
        self.operators: Counter[str] = Counter()
        #: The first node of each operator: its name or, where it has none, its first output's.
        self.nodes: dict[str, str] = {}
        self._functions: set[Function] = set()
        self._domains = runnable_domains()
        for function in functions:
            key = (_domain(function.domain), function.name, function.overload)
            if key in self._functions:
                raise InvalidModel(f"the model defines the function {function.name[:80]!r} twice")
            self._functions.add(key)
        self._nodes: Counter[Function | None] = Counter()
        self._calls: dict[Function | None, Counter[Function]] = {}

    def count(self, found: Found) -> None:
        """Take note of the node `found`; other messages are passed over."""
        if found.depth > MAX_DEPTH:
            raise InvalidModel(f"the model nests graphs more than {MAX_DEPTH} deep")
        node = found.message
        if not isinstance(node, NodeProto):
            return
        if not all(isinstance(text, str) for text in (node.op_type, node.domain, node.name)):
            raise InvalidModel("the model holds a node whose name or operator is not UTF-8 text")
        caller = next((_key(each) for each in found.ancestors if isinstance(each, FunctionProto)), None)
        callee = (_domain(node.domain), node.op_type, node.overload)
        if callee in self._functions:
            self._calls.setdefault(caller, Counter())[callee] += 1
        elif node.domain not in self._domains:
            raise InvalidModel(
                f"node {node.name[:80]!r} is of the operator {node.op_type[:80]!r} of the domain {node.domain[:80]!r},"
                " which no engine here can run: export the model with standard ONNX operators, or with that"
                " operator as a function of the model, or have its library allowed here (OCTET_CUSTOM_OPERATORS)"
            )
        self._nodes[caller] += 1
        operator = node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}::{node.op_type}"
        self.operators[operator] += 1
        self.nodes.setdefault(operator, str(node.name or next(iter(node.output), ""))[:_LONGEST_NODE_NAME])

    def check_unfolding(self) -> None:
        """Raise when functions call themselves, or the model with all calls inlined is out of bounds."""
        sizes: dict[Function | None, int] = {}

        def size(function: Function | None, depth: int) -> int:
            if depth > MAX_CALL_DEPTH:
                raise InvalidModel(
                    f"the model's functions call each other more than {MAX_CALL_DEPTH} deep, or without end"
                )
            if function not in sizes:
                calls = self._calls.get(function, Counter())
                inlined = sum(times * size(callee, depth + 1) for callee, times in calls.items())
                sizes[function] = self._nodes[function] + inlined
            return sizes[function]

        if size(None, 0) > MAX_UNFOLDED_NODES:
            raise TooLarge(
                f"the model comes to more than {MAX_UNFOLDED_NODES} nodes with its functions inlined", field="file"
            )
        for function in self._functions:
            size(function, 0)


def check_versions(model: ModelProto) -> int:
    """The version of the default operator set; raises `InvalidModel` when it, or the IR, is not known here."""
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise InvalidModel(f"the model's IR version is {model.ir_version}; 1 to {onnx.IR_VERSION} are supported")
    imports = _operator_sets(model.opset_import, "the model")
    for function in model.functions:
        _operator_sets(function.opset_import, f"function {function.name[:80]!r}")
    if "" not in imports:
        raise InvalidModel("the model does not say which version of the ONNX operator set it uses (opset_import)")
    return imports[""]


def check_structure(skeleton: bytes) -> None:
    """Have ONNX's own checker look at a serialized model without its large tensors; raises `InvalidModel`."""
    try:
        onnx.checker.check_model(skeleton)
    except _FAULTS as error:
        raise InvalidModel(f"the model is not valid ONNX: {_sentence(error)}") from error


def interface(graph: GraphProto) -> tuple[tuple[TensorSpec, ...], tuple[ValueInfoProto, ...]]:
    """What a client sends: the inputs that no initializer fills, checked; and the outputs, names checked.

    Raises `InvalidModel`, naming the input, for anything but a dense tensor of known rank.
    """
    filled = [tensor.name for tensor in graph.initializer]
    filled += [sparse.values.name for sparse in graph.sparse_initializer]
    _check_names(filled, "initializer")
    _check_names([value.name for value in graph.input], "input")
    _check_names([value.name for value in graph.output], "output")
    if not graph.output:
        raise InvalidModel("the model has no outputs")
    given = frozenset(filled)
    inputs = [_spec(value, f"input {value.name[:80]!r}") for value in graph.input if value.name not in given]
    for spec, shape in inputs:
        if shape is None:
            raise InvalidModel(
                f"input {spec.name[:80]!r} does not declare its rank; export the model with a shape for it, in"
                " which dimensions may be dynamic"
            )
    return tuple(spec for spec, _ in inputs), tuple(graph.output)


def output_specs(outputs: Sequence[ValueInfoProto], model: ModelProto) -> tuple[TensorSpec, ...]:
    """The outputs with their shapes, inferred where the model does not declare them.

    `model` may lack the bytes of large tensors. An output whose rank stays unknown is given shape `(-1,)`.
    """
    specs = [_spec(value, f"output {value.name[:80]!r}") for value in outputs]
    if all(shape is not None for _, shape in specs):
        return tuple(spec for spec, _ in specs)
    inferred = _inferred(model) or [None] * len(specs)
    return tuple(
        spec if shape is not None or value is None else _spec(value, f"output {spec.name[:80]!r}")[0]
        for (spec, shape), value in zip(specs, inferred, strict=True)
    )


def lacks_shape(value: ValueInfoProto) -> bool:
    """Whether `value` is a tensor that does not even declare its rank."""
    return value.type.WhichOneof("value") == "tensor_type" and not value.type.tensor_type.HasField("shape")


def _inferred(model: ModelProto) -> Sequence[ValueInfoProto | None] | None:
    try:
        return list(onnx.shape_inference.infer_shapes(model).graph.output)
    except _FAULTS:
        return None  # the checker has accepted the model; a shape that cannot be inferred is no fault


def _spec(value: ValueInfoProto, label: str) -> tuple[TensorSpec, tuple[int, ...] | None]:
    """The spec of an input or output, and its shape or None where it declares none."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise InvalidModel(f"{label} is {_article(kind)}; only dense tensors can be served")
    tensor = value.type.tensor_type
    if tensor.elem_type not in _DATATYPES:
        known = tensor.elem_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(tensor.elem_type) if known else str(tensor.elem_type)
        raise InvalidModel(
            f"{label} has elements of type {name}, which cannot be served; cast it to one of"
            f" {', '.join(_DATATYPES.values())} in the model"
        )
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(_dimension(dim, label) for dim in tensor.shape.dim)
    return TensorSpec(value.name, _DATATYPES[tensor.elem_type], (-1,) if shape is None else shape), shape


def _dimension(dim: Any, label: str) -> int:
    """A fixed size, or -1 for a dynamic one: named, absent, or spelled as -1."""
    if not dim.HasField("dim_value"):
        return -1
    if dim.dim_value < -1:
        raise InvalidModel(f"{label} has the negative dimension {dim.dim_value}")
    return int(dim.dim_value)


def _article(kind: str | None) -> str:
    return "of no declared type" if kind is None else f"a {kind.removesuffix('_type').replace('_', ' ')}"


def _check_names(names: Sequence[str], what: str) -> None:
    for name, times in Counter(names).items():
        if not name or not isinstance(name, str):
            raise InvalidModel(f"the model has an {what} without a name")
        if times > 1:
            raise InvalidModel(f"the model has {times} {what}s called {name[:80]!r}")


def _operator_sets(imports: Iterable[Any], owner: str) -> dict[str, int]:
    versions: dict[str, int] = {}
    for each in imports:
        domain = _domain(each.domain)
        if versions.setdefault(domain, each.version) != each.version:
            raise InvalidModel(f"{owner} names two versions of the operator set {domain or 'ai.onnx'}")
        newest = _NEWEST.get(domain)
        if newest is not None and not 1 <= each.version <= newest:
            raise InvalidModel(
                f"{owner} uses version {each.version} of the operator set {domain or 'ai.onnx'};"
                f" 1 to {newest} are supported"
            )
    return versions


def _key(function: FunctionProto) -> Function:
    return _domain(function.domain), function.name, function.overload


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _sentence(error: Exception) -> str:
    """ONNX's message on one line, without its places in C++ sources."""
    return " ".join(str(error).split())[:400] or type(error).__name__
