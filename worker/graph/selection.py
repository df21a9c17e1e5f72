"""Which nodes of a prepared graph become integer: what the CPU provider has integer kernels for, and no more."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx

from app.contracts.operators import COMPUTING
from worker import onnx_files
from worker.graph import gemm, hard_sigmoid
from worker.onnx_files import array
from worker.operators import CLIPPING, DEFAULT_DOMAINS, INTEGER_FOLLOWERS, SEVERAL_ACTIVATIONS, WITHOUT_INTEGER_KERNEL

# Embeddings smaller than this are not worth the nodes around them.
_SMALLEST_TABLE = 4096


@dataclass(frozen=True)
class Selection:
    """What to quantize in a graph.

    `nodes`: names; `tables`: names of embeddings, which are not for a writer. `computing`: how many of the nodes have
    integer kernels of weights, without which the rest is in vain. `activations`: tensors whose ranges must be known;
    `same_range` maps further ones to those whose range is theirs, `fixed` those whose range follows from their operator
    to it. `left`: why nodes with weights stay in FP32, with their count.
    """

    nodes: tuple[str, ...]
    computing: int
    tables: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    same_range: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, tuple[float, float]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        return [f"{count} node(s) stay in FP32: {reason}" for reason, count in sorted(self.left.items())]


def select_static(model: onnx.ModelProto, excluded: frozenset[str] = frozenset()) -> Selection:
    """The nodes of a prepared `model` for static quantization; those `excluded` and subgraphs stay in FP32."""
    view = _View(model)
    nodes: list[str] = []
    tables: list[str] = []
    activations: dict[str, None] = {}
    same_range: dict[str, str] = {}
    fixed: dict[str, tuple[float, float]] = {}
    integer: set[str] = set()
    computing = 0
    for node in model.graph.node:
        if node.name in excluded:
            continue
        if view.computes(node):
            computing += 1
            # The output of Conv must be integer for its integer kernel; those of MatMul and Gemm may be FP32.
            own = [node.input[0], node.output[0]] if node.op_type == "Conv" else [node.input[0]]
            integer.update(own[1:])
        elif view.follows(node, integer):
            own = [name for name in (*_activation_inputs(node), *node.output) if name]
            integer.update(name for name in node.output if name)
            if view.is_only_reader_of_clipped(node):
                same_range[node.input[0]] = node.output[0]
            if node.op_type == "HardSigmoid":
                fixed[node.output[0]] = hard_sigmoid.OUTPUT_RANGE
        elif view.looks_up(node):
            tables.append(node.name)
            continue
        else:
            if node.op_type in WITHOUT_INTEGER_KERNEL:
                view.left[f"{node.op_type} has no integer kernel"] += 1
            continue
        nodes.append(node.name)
        activations.update((name, None) for name in own if view.is_float(name))
    observed = tuple(name for name in activations if name not in same_range and name not in fixed)
    return Selection(tuple(nodes), computing, tuple(tables), observed, _ends(same_range), fixed, dict(view.left))


def _ends(same_range: dict[str, str]) -> dict[str, str]:
    """Each name mapped to the end of its chain: a Relu may be clipped again."""
    ends: dict[str, str] = {}
    for name in same_range:
        end = same_range[name]
        while end in same_range:
            end = same_range[end]
        ends[name] = end
    return ends


def select_dynamic(model: onnx.ModelProto) -> Selection:
    """The nodes of a prepared `model`, its Gemms split, for dynamic quantization.

    Conv stays in FP32: its dynamic integer kernel is slower than that, and takes no signed weights (onnxruntime
    issues 3130, 15888).
    """
    view = _View(model, computing=frozenset({"MatMul"}))
    computing = [node.name for node in model.graph.node if view.computes(node)]
    tables = [node.name for node in model.graph.node if view.looks_up(node)]
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    if convolutions:
        view.left["Conv has no dynamic integer kernel that is faster"] = convolutions
    return Selection(tuple(computing), len(computing), tuple(tables), left=dict(view.left))


class _View:
    """A graph as far as the choice depends on it; counts in `left` what it turns down."""

    def __init__(self, model: onnx.ModelProto, computing: frozenset[str] = COMPUTING) -> None:
        graph = model.graph
        self.left: Counter[str] = Counter()
        self._computing = computing
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._floats = {
            value.name
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        }
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._readers.update(value.name for value in graph.output)
        self._read_inside: set[str] = set()
        for subgraph in onnx_files.graphs_below(graph):
            self._read_inside.update(name for node in subgraph.node for name in node.input)
            self._read_inside.update(value.name for value in subgraph.output)
            inside = sum(node.op_type in self._computing for node in subgraph.node)
            if inside:
                self.left["it is inside control flow"] += inside

    def is_float(self, name: str) -> bool:
        return name in self._floats and name not in self._constants

    def computes(self, node: onnx.NodeProto) -> bool:
        """Whether `node` has weights and an integer kernel for its form."""
        if node.op_type not in self._computing or node.domain not in DEFAULT_DOMAINS:
            return False
        obstacle = self._obstacle(node)
        if obstacle is not None:
            self.left[f"{node.op_type} whose {obstacle}"] += 1
        return obstacle is None

    def _obstacle(self, node: onnx.NodeProto) -> str | None:
        weight = self._constants.get(node.input[1])
        if weight is None or weight.data_type != onnx.TensorProto.FLOAT:
            return "weight is not constant"
        if not self.is_float(node.input[0]):
            return "input is constant"
        if node.op_type == "MatMul" and len(weight.dims) != 2:
            # Scales by channel of a stack of matrices, or of a vector, load and then fail in onnxruntime's kernels.
            return "weight is not a matrix"
        if len(node.input) > 2 and node.input[2] and node.input[2] not in self._constants:
            return "bias is not constant"
        if node.op_type == "Gemm" and not gemm.is_normal(node):
            return "input is transposed, or bias not a row"
        return None

    def looks_up(self, node: onnx.NodeProto) -> bool:
        """Whether `node` is an embedding: rows of a large constant table, which 8 bits store well."""
        if node.op_type != "Gather" or node.domain not in DEFAULT_DOMAINS or self._readers[node.input[0]] != 1:
            return False
        table = self._constants.get(node.input[0])
        return (
            table is not None
            and table.data_type == onnx.TensorProto.FLOAT
            and len(table.dims) == 2
            and table.dims[0] * table.dims[1] >= _SMALLEST_TABLE
            and all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
        )

    def follows(self, node: onnx.NodeProto, integer: set[str]) -> bool:
        """Whether `node` can go on with what it reads as integers."""
        if node.op_type not in INTEGER_FOLLOWERS or node.domain not in DEFAULT_DOMAINS:
            return False
        if not all(name in integer for name in _activation_inputs(node)):
            return False
        if node.op_type in CLIPPING:
            # The writer renames its input away, which a subgraph would not notice.
            return node.input[0] not in self._read_inside and self._range_holds_zero(node)
        if node.op_type == "Resize":
            return _text(node, "mode", "nearest") == "nearest"
        # The second output of MaxPool, if any, is positions.
        return node.op_type != "MaxPool" or len(node.output) == 1

    def _range_holds_zero(self, node: onnx.NodeProto) -> bool:
        """Whether a quantized range, which is all that the writer keeps of a Relu or Clip, can stand for it.

        It always holds zero: a Clip to [0.1, 1] is not one.
        """
        if any(name and name not in self._constants for name in node.input[1:]):
            return False
        bounds = [float(array(self._constants[name]).item()) if name else 0.0 for name in node.input[1:]]
        low, high = (*bounds, 0.0, 0.0)[:2]
        return low <= 0.0 <= high

    def is_only_reader_of_clipped(self, node: onnx.NodeProto) -> bool:
        return node.op_type in CLIPPING and self._readers[node.input[0]] == 1


def _text(node: onnx.NodeProto, name: str, default: str) -> str:
    return next((attribute.s.decode() for attribute in node.attribute if attribute.name == name), default)


def _activation_inputs(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input if node.op_type in SEVERAL_ACTIVATIONS else node.input[:1]
