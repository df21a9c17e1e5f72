"""Run a model with its inner tensors as outputs, or edited in another way, without copying its external weights."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from app.engines import Engine, LoadedModel
from worker import onnx_files


def load_exposed(source: Path, tensors: Sequence[str], *, engine: Engine, threads: int) -> LoadedModel:
    """Load a model so that it returns inner tensors instead of its own outputs.

    Args:
        source: The model file. External data lies beside it, and is neither read nor copied.
        tensors: Names of the tensors to return, in this order. Each is computed in the main graph.
        engine: What runs the model.
        threads: Threads of one run.

    Raises:
        InvalidModel: The engine cannot load the model.
    """
    model = onnx_files.load(source, weights=False)
    expose(model.graph, tensors)
    return load_edited(model, source.parent, engine=engine, threads=threads)


def load_edited(model: onnx.ModelProto, folder: Path, *, engine: Engine, threads: int) -> LoadedModel:
    """Load `model`, which no file holds: it is written into `folder`, loaded, and removed again.

    Args:
        model: The graph. Tensors may refer to files in `folder`. Large ones in memory move out of `model`.
        folder: Where the external data of `model` lies.
        engine: What runs the model.
        threads: Threads of one run.

    Raises:
        InvalidModel: The engine cannot load the model.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix="edited-", suffix=".onnx") as file:
        path = Path(file.name)
        data = onnx_files.save_beside(model, path)
        try:
            return engine.load(path, intra_op_threads=threads)
        finally:
            if data is not None:
                data.unlink()


def expose(graph: onnx.GraphProto, tensors: Sequence[str]) -> None:
    """Make `tensors` the outputs of `graph`, in this order, with their element types where `graph` declares them."""
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type")
    }
    del graph.output[:]
    for name in tensors:
        # Without a shape: a declared shape may be narrower than what the samples give.
        output = graph.output.add(name=name)
        if name in types:
            output.type.tensor_type.elem_type = types[name]
