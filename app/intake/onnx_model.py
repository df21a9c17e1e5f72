"""From an upload to a checked ONNX model: `.onnx`, or an archive with its external data."""

import hashlib
import math
import os
import shutil
from pathlib import Path

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import ModelProto, TensorProto

from app.digest import sha256_of
from app.errors import InvalidModel
from app.intake import onnx_graph
from app.intake.archive import TAR_ENDINGS, unpack
from app.intake.artifacts import CheckedModel, Limits
from app.intake.onnx_canonical import MODEL_FILE, write_canonical
from app.intake.onnx_tensors import (
    PAYLOAD_FIELDS,
    Locate,
    TensorChecker,
    companions,
    float_weight_bytes,
    no_companions,
)
from app.intake.onnx_walk import walk

MAX_PROTOBUF_BYTES = 2**31 - 1
#: Tensors over this many elements play no part in the structure, and are left out of what is checked for it.
_SKELETON_ELEMENTS = 4096
_ARCHIVE_ENDINGS = (".zip", *TAR_ENDINGS)


def check_model(source: Path, filename: str, folder: Path, limits: Limits) -> CheckedModel:
    """Check the upload at `source`, which the client called `filename`, and leave its files in `folder`.

    A `.onnx` is kept byte for byte, as is one that an archive holds without needing its other files; a model
    with external data is written anew. Raises `InvalidModel`, or `TooLarge`.
    """
    if source.stat().st_size == 0:
        raise InvalidModel("the file is empty; upload a .onnx, or a .zip or .tar that holds one")
    if filename.lower().endswith(".onnx"):
        return _checked(source, no_companions, folder, limits)
    if not filename.lower().endswith(_ARCHIVE_ENDINGS):
        raise InvalidModel(
            f"{filename[-80:]!r} has an unknown ending; accepted are .onnx, {', '.join(_ARCHIVE_ENDINGS)}"
        )
    members = unpack(source, filename, folder, limits, InvalidModel)
    models = sorted(name for name in members if name.lower().endswith(".onnx"))
    if len(models) != 1:
        held = ", ".join(repr(name[-80:]) for name in models[:5]) or "none"
        raise InvalidModel(f"the archive must hold exactly one .onnx file; it holds {held}")
    return _checked(members[models[0]], companions(members, models[0]), folder, limits)


def _checked(source: Path, locate: Locate, folder: Path, limits: Limits) -> CheckedModel:
    model = _parsed(source)
    model_bytes = source.stat().st_size
    opset = onnx_graph.check_versions(model)
    tensors = TensorChecker(locate, model_bytes, limits)
    operators = onnx_graph.OperatorCounter(model.functions)
    float_bytes = 0
    for found in walk(model):
        operators.count(found)
        tensors.check(found)
        float_bytes += float_weight_bytes(found)
    operators.check_unfolding()
    inputs, outputs = onnx_graph.interface(model.graph)
    if tensors.external:
        path, data_path = write_canonical(model, tensors.external, model_bytes, folder)
    else:
        path, data_path = _linked(source, folder / MODEL_FILE), None
    _check_structure(model)
    file_digest = sha256_of(path)
    data_digest = sha256_of(data_path) if data_path else None
    return CheckedModel(
        path=path,
        data_path=data_path,
        digest=hashlib.sha256(f"{file_digest}{data_digest}".encode()).hexdigest() if data_digest else file_digest,
        file_digest=file_digest,
        data_digest=data_digest,
        size_bytes=path.stat().st_size + (data_path.stat().st_size if data_path else 0),
        opset=opset,
        ir_version=model.ir_version,
        inputs=inputs,
        outputs=onnx_graph.output_specs(outputs, model),
        operators=dict(sorted(operators.operators.items())),
        operator_nodes=operators.nodes,
        float_bytes=float_bytes,
    )


def _parsed(source: Path) -> ModelProto:
    """The protobuf at `source`, of which every byte has to belong to a model."""
    if source.stat().st_size > MAX_PROTOBUF_BYTES:
        raise InvalidModel(
            "a .onnx file cannot be over 2 GiB; export the weights as external data and upload a .zip or .tar"
        )
    content = source.read_bytes()
    try:
        model = ModelProto.FromString(content)
    except DecodeError as error:
        if "alloc" in str(error):
            raise MemoryError from error
        raise InvalidModel(_why_unreadable(content, error)) from error
    except UnicodeDecodeError as error:
        # Only protobuf's decoder in Python looks at text this early; see `OperatorCounter.count` for the others.
        raise InvalidModel("the model holds text that is not UTF-8") from error
    if len(UnknownFieldSet(model)):
        raise InvalidModel("the file is not an ONNX model, or one with other bytes before or after it")
    if not model.HasField("graph"):
        raise InvalidModel("the file holds no ONNX graph: it is not an ONNX model, or a truncated one")
    return model


def _why_unreadable(content: bytes, error: DecodeError) -> str:
    if content.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "the file is an archive, not a .onnx; upload it with its own ending, such as .zip or .tar.gz"
    if "depth" in str(error).lower():
        return f"the model nests graphs more than {onnx_graph.MAX_DEPTH} deep"
    return "the file is not a readable ONNX model: it is of another format, truncated or damaged"


def _linked(source: Path, target: Path) -> Path:
    """`source` under the name `target`, copied only where the file system cannot link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _check_structure(model: ModelProto) -> None:
    """Check the structure of `model`, whose large tensors lose their bytes for good.

    Copies of gigabytes are avoided that way; the bytes were checked already, and written where they were needed.
    """
    emptied = _without_bytes(model)
    for tensor, _ in emptied:
        tensor.dims[:] = [0]  # a tensor of no elements may have no bytes
    # Runtimes serve outputs without a shape, and only ONNX's checker insists on one: it is given a stand-in.
    shapeless = [value for value in model.graph.output if onnx_graph.lacks_shape(value)]
    for value in shapeless:
        value.type.tensor_type.shape.dim.add()
    onnx_graph.check_structure(model.SerializeToString())
    for value in shapeless:
        value.type.tensor_type.ClearField("shape")
    for tensor, dims in emptied:
        tensor.dims[:] = dims


def _without_bytes(model: ModelProto) -> list[tuple[TensorProto, list[int]]]:
    """Take the bytes of all large tensors; returns those tensors with their dimensions."""
    emptied: list[tuple[TensorProto, list[int]]] = []
    for found in walk(model):
        tensor = found.message
        if not isinstance(tensor, TensorProto) or found.in_sparse_tensor:
            continue
        external = tensor.data_location == TensorProto.EXTERNAL
        if external or math.prod(tensor.dims) > _SKELETON_ELEMENTS:
            emptied.append((tensor, list(tensor.dims)))
            for field in (*PAYLOAD_FIELDS, "external_data", "data_location"):
                tensor.ClearField(field)
    return emptied
