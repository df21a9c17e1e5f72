"""What a variant must do before it may serve: load, keep the original's interface, and answer with finite numbers."""

from pathlib import Path

import numpy as np

from app.engines import Engine, LoadedModel, TensorSpec
from app.errors import Invalid, InvalidModel, JobFailed
from worker.samples import Feeds


def load_variant(artifact: Path, *, engine: Engine, intra_op_threads: int) -> LoadedModel:
    """Raises `JobFailed` when the artifact cannot be loaded."""
    try:
        return engine.load(artifact, intra_op_threads=intra_op_threads)
    except InvalidModel as error:
        raise JobFailed(f"the variant was made but does not load: {error.detail}") from error


def check(original: LoadedModel, variant: LoadedModel, request: Feeds) -> None:
    """Raises `JobFailed` with the reason when `variant` is not a stand-in for `original`, judged on `request`."""
    if original.inputs != variant.inputs:
        raise JobFailed(_difference("inputs", original.inputs, variant.inputs))
    if not _agree(original.outputs, variant.outputs):
        raise JobFailed(_difference("outputs", original.outputs, variant.outputs))
    expected = original.run(request)
    try:
        answer = variant.run(request)
    except Invalid as error:
        raise JobFailed(f"the variant refuses what the original answers: {error.detail}") from error
    for spec, left, right in zip(original.outputs, expected, answer, strict=True):
        if left.shape != right.shape or left.dtype != right.dtype:
            raise JobFailed(
                f"output '{spec.name}' of the variant is {right.dtype} of shape {list(right.shape)};"
                f" the original answers the same request with {left.dtype} of shape {list(left.shape)}"
            )
        if left.dtype.kind == "f" and not np.isfinite(right[np.isfinite(left)]).all():
            raise JobFailed(f"output '{spec.name}' of the variant is NaN or infinite where the original's is finite")


def _agree(original: tuple[TensorSpec, ...], variant: tuple[TensorSpec, ...]) -> bool:
    """Whether outputs are the same, as far as both are known: of one graph more can be inferred than of another."""
    return [(spec.name, spec.datatype, len(spec.shape)) for spec in original] == [
        (spec.name, spec.datatype, len(spec.shape)) for spec in variant
    ] and all(
        left == right or left < 0 or right < 0
        for one, other in zip(original, variant, strict=True)
        for left, right in zip(one.shape, other.shape, strict=True)
    )


def _difference(side: str, original: tuple[TensorSpec, ...], variant: tuple[TensorSpec, ...]) -> str:
    return (
        f"the {side} of the variant are {[spec.as_json() for spec in variant]};"
        f" those of the original are {[spec.as_json() for spec in original]}"
    )
