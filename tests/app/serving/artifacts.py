"""Artifacts to load: real sessions, or models that do as a test says."""

import hashlib
from pathlib import Path

import onnx

from app.blobs import BlobStore
from app.serving.loading import Artifact


def kept(blobs: BlobStore, path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    blobs.put(path, digest)
    return digest


def kept_model(blobs: BlobStore, model: onnx.ModelProto, folder: Path) -> Artifact:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return Artifact("onnxruntime", kept(blobs, path))
