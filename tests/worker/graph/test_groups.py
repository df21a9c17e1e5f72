"""Which nodes become integer together."""

from pathlib import Path

import onnx
from onnx import helper

from tests.worker import models
from worker.graph.groups import Group, quantizer_groups
from worker.graph.prepare import prepare
from worker.graph.selection import select_static


def _groups(model: onnx.ModelProto, folder: Path) -> list[Group]:
    prepared = onnx.load(prepare(models.write(model, folder), folder))
    return quantizer_groups(prepared, select_static(prepared))


def test_what_goes_on_with_a_result_belongs_to_the_node_that_computed_it(tmp_path: Path) -> None:
    groups = _groups(models.classifier(), tmp_path)
    first, second, last = groups
    assert first.nodes[0] == first.name == "conv1"
    assert "relu1" in first.nodes
    # The sum reads both convolutions: it belongs to the one that is computed last, and so does what follows it.
    assert [node for node in ("relu2", "add", "pool", "flatten") if node in second.nodes] == [
        "relu2", "add", "pool", "flatten",
    ]  # fmt: skip
    assert last.computing == ("gemm",)


def test_every_node_with_weights_is_in_one_group(tmp_path: Path) -> None:
    prepared = onnx.load(prepare(models.write(models.classifier(), tmp_path), tmp_path))
    selection = select_static(prepared)
    nodes = [node for group in quantizer_groups(prepared, selection) for node in group.nodes]
    assert len(nodes) == len(set(nodes))
    assert set(nodes) == set(selection.nodes)


def test_products_of_one_fp32_tensor_share_its_quantizer(tmp_path: Path) -> None:
    names = ("query", "key", "value")
    model = models.model(
        [
            helper.make_node("Softmax", ["x"], ["s"], "softmax"),
            *(helper.make_node("MatMul", ["s", f"w{name}"], [name], name) for name in names),
            helper.make_node("Softmax", ["value"], ["t"], "between"),
            helper.make_node("MatMul", ["t", "wout"], ["out"], "out"),
        ],
        {"x": ["n", 4, 8]},
        {"query": None, "key": None, "out": None},
        {f"w{name}": models.normal(8, 8, seed=seed) for seed, name in enumerate((*names, "out"))},
    )
    assert [group.computing for group in _groups(model, tmp_path)] == [names, ("out",)]


def test_convolutions_of_one_integer_tensor_are_apart(tmp_path: Path) -> None:
    model = models.model(
        [
            helper.make_node("Conv", ["x", "w1"], ["c"], "stem"),
            helper.make_node("Conv", ["c", "w2"], ["a"], "left"),
            helper.make_node("Conv", ["c", "w3"], ["b"], "right"),
            helper.make_node("Concat", ["a", "b"], ["y"], "join", axis=1),
        ],
        {"x": ["n", 4, 6, 6]},
        {"y": None},
        {f"w{number}": models.normal(4, 4, 1, 1, seed=number) for number in (1, 2, 3)},
    )
    assert [group.nodes for group in _groups(model, tmp_path)] == [("stem",), ("left",), ("right", "join")]
