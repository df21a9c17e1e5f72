"""The model inspector, short of running the model: one `.onnx`, `.zip` or `.tar`, told apart by its bytes."""

import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from google.protobuf.message import DecodeError
from onnx import ModelProto

from app.errors import OctetError
from app.intake.artifacts import CheckedModel, Limits
from app.intake.onnx_model import check_model
from tests.fuzz.protobufs import change
from tests.fuzz.targets import Mutate, check_refusal
from tests.fuzz.zips import changed_zip

_LIMITS = Limits(seconds=60, unpacked_bytes=16 * 1024**2)
_NAMES = ("m.onnx", "w", "weights.bin", "models/m.onnx")
_TAR_MAGIC_AT = 257


def check(data: bytes) -> None:
    """What is accepted comes back whole from JSON, and is accepted again when it is uploaded as it was kept."""
    with TemporaryDirectory(prefix="octet-fuzz-") as name:
        folder = Path(name)
        source = folder / "upload"
        source.write_bytes(data)
        try:
            checked = check_model(source, _filename(data), folder, _LIMITS)
        except OctetError as refusal:
            check_refusal(refusal)
            return
        assert CheckedModel.from_json(json.loads(json.dumps(checked.as_json())), folder) == checked
        (folder / "again").mkdir()
        again = check_model(checked.path, "model.onnx", folder / "again", _LIMITS)
        assert (again.digest, again.inputs, again.outputs) == (checked.digest, checked.inputs, checked.outputs)


def mutated(data: bytes, random: Random, mutate: Mutate) -> bytes:
    if _filename(data).endswith(".zip"):
        return changed_zip(data, random, mutate, _NAMES, _mutated_member)
    return _mutated_model(data, random, mutate)


def _mutated_model(data: bytes, random: Random, mutate: Mutate) -> bytes:
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        return mutate(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        change(model, random, mutate)
    return model.SerializePartialToString()


def _mutated_member(name: str, data: bytes, random: Random, mutate: Mutate) -> bytes:
    return _mutated_model(data, random, mutate) if name.endswith(".onnx") else mutate(data)


def _filename(data: bytes) -> str:
    if data.startswith(b"PK"):
        return "model.zip"
    if data.startswith(b"\x1f\x8b"):
        return "model.tar.gz"
    return "model.tar" if data[_TAR_MAGIC_AT:].startswith(b"ustar") else "model.onnx"
