"""Sets of operators that only the worker knows; those that the gateway knows too are in `app.contracts.operators`.

All are of ONNX's default domain.
"""

from app.contracts.operators import COMPUTING

#: The two names of ONNX's default domain of operators.
DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})

#: Operators with a weight that have no static integer kernel.
WITHOUT_INTEGER_KERNEL = frozenset({"ConvTranspose", "Einsum", "GRU", "LSTM", "RNN"})

#: Operators that a quantized range can stand for: the ends of the integers clip.
CLIPPING = frozenset({"Clip", "Relu"})

#: Operators whose activations are all of their inputs. Of every other operator only the first input is an activation.
SEVERAL_ACTIVATIONS = frozenset({"Add", "Concat", "Mul"})

#: Operators that go on with integers where all activations that they read are integer already. Around any other
#: operator the values are FP32, which costs a conversion and spares its result the rounding: in a transformer that is
#: everything but the matrix products.
INTEGER_FOLLOWERS = CLIPPING | SEVERAL_ACTIVATIONS | {
    "AveragePool", "Flatten", "GlobalAveragePool", "HardSigmoid", "LeakyRelu", "MaxPool", "Reshape", "Resize",
    "Sigmoid", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip

#: Operators whose results are never below zero. Every range holds zero, so the lowest value matters to none.
NEVER_NEGATIVE = frozenset({"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt"})

#: Layers without a weight: sums and normalizations, in which the errors of other layers meet.
LAYERS_WITHOUT_WEIGHTS = frozenset({"Add", "LayerNormalization"})

#: Operators that a report compares layer by layer.
LAYERS = COMPUTING | LAYERS_WITHOUT_WEIGHTS | {"Attention", "ConvTranspose", "Einsum", "GRU", "Gather", "LSTM"}

#: Operators that add or multiply a vector, such as a bias, channel by channel.
WITH_VECTORS = frozenset({"Add", "Conv", "Gemm", "LayerNormalization", "Mul"})
