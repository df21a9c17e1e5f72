"""Answers as a model would give them, to be encoded."""

from collections.abc import Sequence
from typing import Any

from app.inference.dataplane import InferenceResponse, OutputTensor, Served

#: What encoding does not look at is left out.
_NOTHING: Any = None
_SERVED = Served("model", "original", 1, (1,), _NOTHING, (), (), None, False)


def response_of(outputs: Sequence[OutputTensor], id: str | None) -> InferenceResponse:
    return InferenceResponse(_SERVED, outputs, id)
