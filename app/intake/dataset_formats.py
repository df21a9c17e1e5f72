"""The table of formats that a dataset may be uploaded in; forms, help and the API document are made from it.

To add a format, write one file with a reader (and a model of its options, where it takes any), and add its row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from app.errors import InvalidDataset


@dataclass(frozen=True)
class Format:
    """A format of dataset files.

    Attributes:
        endings: Endings of file names, in lower case.
        content: What a file of this format holds, for people.
        reader: "module:function". The function takes the upload, the path to write the canonical dataset to (see
            `DatasetWriter`), the limits, and the options (None where the format takes none); it returns a
            `CheckedDataset`, and raises `InvalidDataset` or `TooLarge`. It runs in a confined process, which imports
            the module only when a file of this format comes.
        options: "module:Class" of the pydantic model that the JSON in `preprocess` must fit; None for no options.
    """

    endings: tuple[str, ...]
    content: str
    reader: str
    options: str | None = None


_TABLE = "a table, whose columns become arrays"
_TABLE_OPTIONS = "app.intake.preprocess:TablePreprocess"

FORMATS: dict[str, Format] = {
    "npz": Format(
        endings=(".npz",),
        content="arrays with the names of the model's inputs, labels in an array 'label'",
        reader="app.intake.arrays:read_npz",
    ),
    "npy": Format(
        endings=(".npy",),
        content="one array",
        reader="app.intake.arrays:read_npy",
        options="app.intake.preprocess:ArrayPreprocess",
    ),
    "images": Format(
        endings=(".zip",),
        content="images, whose folders are the class names",
        reader="app.intake.images:read_images",
        options="app.intake.preprocess:ImagePreprocess",
    ),
    "csv": Format((".csv",), _TABLE, "app.intake.tables:read_csv", _TABLE_OPTIONS),
    "jsonl": Format((".jsonl",), _TABLE, "app.intake.tables:read_json_lines", _TABLE_OPTIONS),
    "parquet": Format((".parquet",), _TABLE, "app.intake.tables:read_parquet", _TABLE_OPTIONS),
}


def endings() -> tuple[str, ...]:
    """Return the endings of all formats, in the order of the table."""
    return tuple(ending for each in FORMATS.values() for ending in each.endings)


def described() -> Iterator[tuple[tuple[str, ...], str]]:
    """Iterate over the endings of files with the same content, and what that is."""
    for content, group in groupby(FORMATS.values(), lambda each: each.content):
        yield tuple(ending for each in group for ending in each.endings), content


def find(source: Path, filename: str) -> Format:
    """Return the format of the upload at `source`, which the client calls `filename`.

    Raises:
        InvalidDataset: No format has this ending, or the file is empty.
    """
    known = ", ".join(endings())
    for each in FORMATS.values():
        if filename.lower().endswith(each.endings):
            if source.stat().st_size == 0:
                raise InvalidDataset(f"the file is empty; upload a dataset as one of {known}")
            return each
    raise InvalidDataset(f"{filename[-80:]!r} has an unknown ending; accepted are {known}")
