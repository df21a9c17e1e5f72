"""Weights that stay in files while a variant is made give the same variant, byte for byte."""

from pathlib import Path
from typing import Any

import pytest

from tests.worker import models
from worker import onnx_files

JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "fp16": ("fp16", {}),
    "dynamic": ("dynamic", {}),
    "int4": ("int4", {"algorithm": "rtn"}),
    "int8": ("int8", {}),
    "mixed": ("mixed", {"high_precision": "fp16"}),
}


@pytest.mark.parametrize("job", JOBS)
def test_mapped_weights_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str) -> None:
    method, options = JOBS[job]
    arrays = {"x": models.normal(24, 3, 8, 8)}
    made = []
    for name in ("in memory", "mapped"):
        if name == "mapped":
            monkeypatch.setattr(onnx_files, "MAPPED_ABOVE_BYTES", 0)
        folder = tmp_path / name
        folder.mkdir()
        source = models.write(models.classifier(), folder)
        point = ("conv2",) if method == "mixed" else None
        made.append(models.make(method, source, arrays, calibrate=8, point=point, **options))
    in_memory, mapped = made
    assert mapped.artifact.read_bytes() == in_memory.artifact.read_bytes()
    assert mapped.facts == in_memory.facts
    if method != "fp16":
        graph = onnx_files.load(mapped.reference, weights=False).graph
        assert any(onnx_files.is_external(tensor) for tensor in graph.initializer)
