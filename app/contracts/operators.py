"""Sets of operators that decide, before a job is queued, whether a method can work on a model.

An operator of ONNX's own domain is named by its type, any other `domain::type`, as uploads count them.
"""

from collections.abc import Collection

#: Matrix products with a weight. Their integer kernels write FP32 at no cost.
MATRIX_PRODUCTS = frozenset({"MatMul", "Gemm"})

#: Operators with a weight that have an integer kernel: what makes a quantized model faster.
COMPUTING = MATRIX_PRODUCTS | {"Conv"}

#: Operators of models that are quantized already, without their domain.
QUANTIZED_OPERATORS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger",
    "ConvInteger", "MatMulNBits",
})  # fmt: skip

#: Operators that can be trained. They are named here since the gateway does not load torch; `worker.training.ops` has
#: a table of the same names that says how each is computed.
TRAINABLE_OPERATORS: frozenset[str] = frozenset({
    "Abs", "Acos", "Add", "And", "ArgMax", "ArgMin", "Asin", "Atan", "AveragePool", "BatchNormalization", "Cast",
    "CastLike", "Ceil", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos",
    "Cosh", "CumSum", "DepthToSpace", "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten",
    "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsInf",
    "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization",
    "MatMul", "Max", "MaxPool", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "NonZero",
    "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu",
    "Reshape", "Resize", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin",
    "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub",
    "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
    "com.microsoft::Gelu", "com.microsoft::QuickGelu",
})  # fmt: skip


def quantized_operators(operators: Collection[str]) -> list[str]:
    """Return those of `operators` that only a quantized model has, sorted; an FP32 model has none."""
    return sorted(name for name in operators if name.rpartition("::")[2] in QUANTIZED_OPERATORS)
