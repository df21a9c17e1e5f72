"""What clients see of a graph: inputs and outputs. A variant's is that of its upload, to the letter."""

import onnx

from worker.operators import DEFAULT_DOMAINS


def drop_overridable_inputs(model: onnx.ModelProto) -> bool:
    """Make initializers that are listed as inputs too (IR 3, and some exporters) plain initializers.

    No client could set them: inference takes the inputs without a default only. As constants they can be folded and
    quantized. Returns whether there were any.
    """
    graph = model.graph
    initialized = {tensor.name for tensor in graph.initializer}
    kept = [argument for argument in graph.input if argument.name not in initialized]
    if len(kept) == len(graph.input):
        return False
    del graph.input[:]
    graph.input.extend(kept)
    # Before IR 4 an initializer had to be an input as well.
    model.ir_version = max(model.ir_version, 4)
    return True


def of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The declared inputs and outputs of `model`, dynamic axes and all, and its own metadata: no node and no weight."""
    found = onnx.ModelProto(metadata_props=model.metadata_props, doc_string=model.doc_string)
    initialized = {tensor.name for tensor in model.graph.initializer}
    found.graph.input.extend(argument for argument in model.graph.input if argument.name not in initialized)
    found.graph.output.extend(model.graph.output)
    return found


def restore(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Give `model` the interface `original`, as `of` has it."""
    for target, source in ((model.graph.input, original.graph.input), (model.graph.output, original.graph.output)):
        del target[:]
        target.extend(source)
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    model.doc_string = original.doc_string


def trim_domains(model: onnx.ModelProto) -> None:
    """Drop imports of operator sets that no node uses: a runtime may refuse a model for one it lacks."""
    used = {*DEFAULT_DOMAINS, *(function.domain for function in model.functions)}
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        used.add(node.domain)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
