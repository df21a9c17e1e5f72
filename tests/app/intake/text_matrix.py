"""A toy format, written as a contributor would: numbers as plain text, one sample a line."""

from pathlib import Path

import numpy as np

from app.errors import InvalidDataset
from app.intake.artifacts import ArraySpec, CheckedDataset, Limits
from app.intake.dataset_file import DatasetWriter
from app.intake.dataset_formats import Format
from app.intake.preprocess import Name, Preprocess


class TextMatrixOptions(Preprocess):
    """The name of the array, and what separates its columns."""

    input: Name = "input"
    separator: str | None = None


def read_text_matrix(source: Path, target: Path, limits: Limits, options: TextMatrixOptions) -> CheckedDataset:
    """Check a text matrix and write it to `target` in canonical form, as FP32 of shape (samples, columns)."""
    try:
        matrix = np.loadtxt(source, np.float32, delimiter=options.separator, ndmin=2)
    except ValueError as error:
        raise InvalidDataset(f"the file is not a matrix of numbers: {error}") from error
    with DatasetWriter(target, [ArraySpec(options.input, "FP32", matrix.shape)], limits) as writer:
        writer.write(options.input, matrix)
    return writer.checked()


ROW = Format(
    endings=(".txt",),
    content="a matrix of numbers, one sample a line",
    reader="tests.app.intake.text_matrix:read_text_matrix",
    options="tests.app.intake.text_matrix:TextMatrixOptions",
)
