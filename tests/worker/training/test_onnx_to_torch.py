"""The module that an ONNX graph becomes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.errors import NotQuantizable
from tests.servers import WITHOUT_TORCH
from tests.worker import models
from tests.worker.runtime import run
from tests.worker.training.cases import BY_OPERATOR
from tests.worker.training.cases.case import Case

torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)

from worker.graph.prepare import prepare  # noqa: E402
from worker.training.onnx_to_torch import OnnxModule, UnsupportedOperator, tensors  # noqa: E402

_IMAGES = models.normal(6, 3, 8, 8, seed=9)
# Statistics that the model was trained with, and the bounds of a range.
_NO_GRADIENT = {"BatchNormalization": {"x3", "x4"}, "Range": {"x0", "x1", "x2"}}


def _differentiable(case: Case) -> bool:
    return bool(case.opsets) and any(values is not None and values.dtype == np.float32 for values in case.inputs)


@pytest.mark.parametrize("operator", BY_OPERATOR)
def test_gradients_reach_every_weight(operator: str, subtests: pytest.Subtests) -> None:
    for case in BY_OPERATOR[operator]:
        if _differentiable(case):
            with subtests.test(str(case)):
                _check_gradients(case)


def _check_gradients(case: Case) -> None:
    module = OnnxModule(case.model(case.opsets[-1], constant=range(len(case.inputs))))
    for value in module({}):
        if value.requires_grad:
            value.square().sum().backward()
        else:
            assert not value.is_floating_point() or case.operator == "Range"
            return
    without = {name for name, weight in module.initializers.items() if weight.grad is None}
    assert without == _NO_GRADIENT.get(case.operator, set())


def test_folded_or_not_it_computes_what_onnxruntime_computes(tmp_path: Path) -> None:
    for name, arrays in (("classifier", {"x": _IMAGES}), ("token_encoder", models.token_arrays(6))):
        source = models.write(getattr(models, name)(), tmp_path)
        expected = run(source, arrays)[0]
        for path in (source, prepare(source, tmp_path)):
            (computed,) = OnnxModule(onnx.load(path))(tensors(arrays))
            np.testing.assert_allclose(computed.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", range(11, 22))
def test_it_takes_each_opset(tmp_path: Path, opset: int) -> None:
    path = models.write(models.classifier(opset=opset), tmp_path)
    (computed,) = OnnxModule(onnx.load(path))(tensors({"x": _IMAGES}))
    np.testing.assert_allclose(computed.detach().numpy(), run(path, {"x": _IMAGES})[0], rtol=1e-4, atol=1e-5)


def test_shapes_are_computed_for_any_batch() -> None:
    """(batch, 4, 6) → (batch, 4, 2, 3) by Shape, Gather, Unsqueeze, Concat and Reshape, as exporters write a view."""
    constants = {name: np.array(value, np.int64) for name, value in {"zero": 0, "at": [0], "rest": [4, 2, 3]}.items()}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in constants.items()
    ]
    nodes += [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch", "at"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    module = OnnxModule(models.model(nodes, {"x": ["batch", 4, 6]}, {"y": ["batch", 4, 2, 3]}))
    for batch in (1, 2, 7):
        (y,) = module({"x": torch.ones(batch, 4, 6)})
        assert y.shape == (batch, 4, 2, 3)


def test_float_constants_are_parameters_by_their_onnx_names() -> None:
    model = models.model(
        [helper.make_node("Gemm", ["x", "fc/weight.1", "fc/bias.1"], ["y"], "fc")],
        {"x": ["n", 4]},
        {"y": ["n", 3]},
        {"fc/weight.1": models.normal(4, 3), "fc/bias.1": models.normal(3)},
    )
    module = OnnxModule(model)
    assert module.initializers.keys() == {"fc/weight.1", "fc/bias.1"}
    assert module.parameter("fc/weight.1") is module.initializers["fc/weight.1"]
    assert len(list(module.parameters())) == 2
    assert all(weight.requires_grad for weight in module.parameters())
    with pytest.raises(KeyError):
        module.parameter("fc/weight.2")


def test_it_is_trained_saved_and_copied_as_other_modules_are() -> None:
    module = OnnxModule(models.classifier())
    before = module({"x": torch.from_numpy(_IMAGES)})[0].detach()
    twin = copy.deepcopy(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    (scores,) = module({"x": torch.from_numpy(_IMAGES)})
    scores.square().mean().backward()
    optimizer.step()
    after = module({"x": torch.from_numpy(_IMAGES)})[0].detach()
    assert not torch.equal(before, after)
    assert torch.equal(twin({"x": torch.from_numpy(_IMAGES)})[0], before)
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin({"x": torch.from_numpy(_IMAGES)})[0], after)


def test_other_weights_can_take_their_place_for_a_call() -> None:
    module = OnnxModule(models.classifier())
    feeds = {"x": torch.from_numpy(_IMAGES)}
    before = module(feeds)[0]
    replaced = module(feeds, weights={"fc": torch.zeros(5, 8), "fb": torch.arange(5.0)})[0]
    assert torch.equal(replaced, torch.arange(5.0).expand(6, 5))
    assert torch.equal(module(feeds)[0], before)
    with pytest.raises(KeyError, match="fd"):
        module(feeds, weights={"fd": torch.zeros(1)})


def test_a_gradient_reaches_weights_through_what_replaces_them() -> None:
    module = OnnxModule(models.classifier())
    weight = module.parameter("w1")
    module({"x": torch.from_numpy(_IMAGES)}, weights={"w1": weight * 2})[0].sum().backward()
    assert weight.grad is not None
    assert float(weight.grad.abs().sum()) > 0


def test_a_transform_sees_every_float_tensor_in_order_and_replaces_it() -> None:
    module = OnnxModule(models.classifier())
    seen = []

    def note(name: str, value: Any) -> Any:
        seen.append(name)
        return torch.zeros_like(value) if name == "pooled" else value

    (scores,) = module({"x": torch.from_numpy(_IMAGES)}, note)
    assert seen == ["x", "c1", "n1", "r1", "c2", "n2", "r2", "sum", "pooled", "flat", "scores"]
    assert torch.allclose(scores, module.parameter("fb").expand(6, 5))


def test_a_transform_sees_no_integers() -> None:
    seen = []
    module = OnnxModule(models.token_encoder())
    module(tensors(models.token_arrays(2)), lambda name, value: seen.append(name) or value)
    assert seen == ["e", "h", "hr", "o", "m", "m3", "masked", "pooled", "embedding"]


def test_an_output_may_be_an_input_or_a_constant() -> None:
    model = models.model(
        [helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, {"x": [2], "c": [2], "y": [2]}, {"c": models.normal(2)}
    )
    x = torch.tensor([-1.0, 1.0])
    given, constant, y = OnnxModule(model)({"x": x})
    assert torch.equal(given, x)
    assert torch.equal(constant, torch.from_numpy(models.normal(2)))
    assert torch.equal(y, torch.tensor([0.0, 1.0]))


def test_tensors_are_let_go_after_their_last_reader() -> None:
    """Of a chain of 64 tensors of 1 MB no more than a few are alive together."""
    import weakref

    nodes = [helper.make_node("Neg", [f"t{place}"], [f"t{place + 1}"]) for place in range(64)]
    module = OnnxModule(models.model(nodes, {"t0": ["n"]}, {"t64": ["n"]}))
    alive: list[Any] = []
    most = 0

    def count(name: str, value: Any) -> Any:
        nonlocal most
        alive.append(weakref.ref(value))
        most = max(most, sum(reference() is not None for reference in alive))
        return value

    with torch.no_grad():
        module({"t0": torch.zeros(2**18)}, count)
    assert most <= 3


def test_it_keeps_no_hold_of_the_model_that_it_was_made_from() -> None:
    model = models.classifier()
    module = OnnxModule(model)
    feeds = {"x": torch.from_numpy(_IMAGES)}
    before = module(feeds)[0]
    for tensor in model.graph.initializer:
        tensor.raw_data = bytes(len(tensor.raw_data))
    assert torch.equal(module(feeds)[0], before)


def test_half_precision_weights_are_not_trained() -> None:
    weights = {"w": models.normal(4).astype(np.float16)}
    x = (TensorProto.FLOAT16, ["n", 4])
    module = OnnxModule(models.model([helper.make_node("Mul", ["x", "w"], ["y"])], {"x": x}, {"y": None}, weights))
    assert not module.parameter("w").requires_grad


def _one(operator: str, inputs: list[str], **attributes: Any) -> onnx.ModelProto:
    weights = {"w": models.normal(4, 4), "shape": np.array([1, 1, 8, 8], np.int64)}
    node = helper.make_node(operator, inputs, ["y"], "block.3/odd", **attributes)
    return models.model([node], {"x": ["n", 4, 4, 4]}, {"y": None}, weights, opset=19)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_one("Det", ["x"]), "Det"),
        (_one("Sin", ["x"], domain="com.microsoft"), "com.microsoft::Sin"),
        (_one("Resize", ["x", "", "", "shape"], mode="linear", antialias=1), "antialias=1"),
        (_one("Resize", ["x", "", "", "shape"], coordinate_transformation_mode="tf_crop_and_resize"), "tf_crop"),
        (_one("Relu", ["x"], consumed_inputs=[1]), "consumed_inputs"),
        (_one("Relu", ["x", "w"]), "inputs"),
        (_one("BatchNormalization", ["x", "w", "w", "w", "w"], training_mode=1), "training_mode=1"),
    ],
)
def test_what_it_cannot_do_is_refused_by_operator_and_node(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(UnsupportedOperator, match=reason) as refusal:
        OnnxModule(model)
    assert "block.3/odd" in refusal.value.detail
    assert refusal.value.node == "block.3/odd"
    assert isinstance(refusal.value, NotQuantizable)


def test_what_shows_only_with_values_is_refused_when_they_come() -> None:
    module = OnnxModule(_one("AveragePool", ["x"], kernel_shape=[2, 2], dilations=[2, 1]))
    with pytest.raises(UnsupportedOperator, match=r"dilations.*") as refusal:
        module({"x": torch.zeros(1, 4, 4, 4)})
    assert refusal.value.node == "block.3/odd"


def test_a_second_output_that_is_not_computed_is_refused() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "indices"], "pool", kernel_shape=[2, 2])
    model = models.model([node], {"x": ["n", 4, 4, 4]}, {"y": None, "indices": (TensorProto.INT64, None)})
    with pytest.raises(UnsupportedOperator, match="2 outputs"):
        OnnxModule(model)


def test_subgraphs_are_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "branch", [], [helper.make_empty_tensor_value_info("z")]
    )
    node = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch, else_branch=branch)
    model = models.model([node], {"x": ["n"], "c": (TensorProto.BOOL, [])}, {"y": None})
    with pytest.raises(UnsupportedOperator, match="'choice' is of the operator If"):
        OnnxModule(model)


def test_an_error_of_torch_says_in_which_node() -> None:
    module = OnnxModule(models.classifier())
    with pytest.raises(RuntimeError) as error:
        module({"x": torch.zeros(1, 4, 8, 8)})
    assert error.value.__notes__ == ["in node 'conv1' (Conv)"]
