"""Which nodes are proposed to stay in FP32."""

import onnx
from onnx import helper

from app.contracts.figures import LayerFigures
from tests.worker import models
from worker.graph.selection import Selection, select_static
from worker.repair.exclusions import by_damage, tail


def _detector() -> onnx.ModelProto:
    """x → Conv → Relu → two Convs, whose outputs, one through a Sigmoid, are joined."""
    return models.model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "stem"),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("Conv", ["r", "v"], ["boxes"], "boxes"),
            helper.make_node("Conv", ["r", "u"], ["raw"], "scores"),
            helper.make_node("Sigmoid", ["raw"], ["scores"], "sigmoid"),
            helper.make_node("Concat", ["boxes", "scores"], ["y"], "join", axis=1),
        ],
        {"x": ["n", 3, 8, 8]},
        {"y": ["n", 8, 4, 4]},
        {"w": models.normal(4, 3, 3, 3), "v": models.normal(4, 4, 3, 3), "u": models.normal(4, 4, 3, 3)},
    )


def _selection() -> Selection:
    prepared = _detector()
    for name in ("c", "r", "boxes", "raw", "scores"):
        prepared.graph.value_info.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return select_static(prepared)


def test_the_tail_is_what_no_weights_come_after() -> None:
    assert tail(_detector(), _selection()) == ["sigmoid", "join"]


def test_damage_is_what_a_node_adds_to_the_noise_of_its_inputs() -> None:
    layers = [
        LayerFigures(name="stem", operator="Conv", sqnr_db=20.0),
        LayerFigures(name="boxes", operator="Conv", sqnr_db=19.9),
        LayerFigures(name="scores", operator="Conv", sqnr_db=10.0),
    ]
    assert by_damage(_detector(), _selection(), layers) == ["scores", "stem", "boxes"]


def test_a_node_that_makes_nothing_worse_is_not_proposed() -> None:
    layers = [
        LayerFigures(name="stem", operator="Conv", sqnr_db=20.0),
        LayerFigures(name="boxes", operator="Conv", sqnr_db=25.0),
    ]
    assert by_damage(_detector(), _selection(), layers) == ["stem"]
