"""Datasets that are tables: columns become arrays, in two passes over the file.

The first finds the types, shapes and class names that hold for all rows, the second writes; so a table never
has to fit in memory.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.engine import NUMPY_TYPES, OIP_NAMES, Array
from app.errors import InvalidDataset
from app.intake.arrays import checked_labels
from app.intake.artifacts import ArraySpec, CheckedDataset, Limits
from app.intake.dataset_file import LABEL, DatasetWriter
from app.intake.preprocess import TablePreprocess
from app.intake.table_files import Batch, CsvFile, JsonLinesFile, ParquetFile, TableFile, check_shape

MAX_CLASSES = 65_536
_NUMBERED = re.compile(r"^(.+)\.(0|[1-9][0-9]{0,5})$")
_DTYPES = {"b": np.dtype(np.bool_), "i": np.dtype(np.int64), "f": np.dtype(np.float32)}


@dataclass(frozen=True)
class _Planned:
    """An array to make: of one column as it is, or of several side by side, `(samples, columns)`."""

    name: str
    columns: tuple[str, ...]
    stacked: bool


@dataclass
class _Column:
    """What all rows of a column have in common: the kind (`b`, `i`, `f` or text, `O`) and a row's shape."""

    kind: str
    shape: tuple[int, ...]


def read_csv(source: Path, target: Path, limits: Limits, wanted: TablePreprocess) -> CheckedDataset:
    """Check a `.csv` and write its arrays to `target` in canonical form; see `read_table`."""
    return read_table(CsvFile(source), target, limits, wanted)


def read_json_lines(source: Path, target: Path, limits: Limits, wanted: TablePreprocess) -> CheckedDataset:
    """Check a `.jsonl` and write its arrays to `target` in canonical form; see `read_table`."""
    return read_table(JsonLinesFile(source), target, limits, wanted)


def read_parquet(source: Path, target: Path, limits: Limits, wanted: TablePreprocess) -> CheckedDataset:
    """Check a `.parquet` and write its arrays to `target` in canonical form; see `read_table`."""
    return read_table(ParquetFile(source), target, limits, wanted)


def read_table(table: TableFile, target: Path, limits: Limits, wanted: TablePreprocess) -> CheckedDataset:
    """Check a table and write its arrays to `target` in canonical form.

    Without `columns` in `wanted`, a column is an array of its name, `(samples,)` or with the shape of its
    lists, and columns `x.0`, `x.1`, … are one array `x`, `(samples, k)`. Integers become int64, floats float32,
    bools stay, unless `dtype` says otherwise. Raises `InvalidDataset` or `TooLarge`.
    """
    label = _label_column(table.names, wanted)
    planned = _plan(table.names, label, wanted)
    columns = sorted({column for array in planned for column in array.columns} | ({label} if label else set()))
    rows, found, classes = _survey(table, columns, label)
    specs = [_spec(array, found, rows, wanted) for array in planned]
    class_names = tuple(sorted(classes)) if classes else None
    labels = [ArraySpec(LABEL, "INT64", (rows,))] if label else []
    with DatasetWriter(target, [*specs, *labels], limits, class_names) as writer:
        before = 0
        for batch in table.batches(columns):
            for array, spec in zip(planned, specs, strict=True):
                writer.write(array.name, _values(array, spec, batch, before))
            if label is not None:
                writer.write(LABEL, _labels(batch[label], class_names, before))
            before += len(batch[columns[0]])
    return writer.checked()


def _label_column(names: Sequence[str], wanted: TablePreprocess) -> str | None:
    label = wanted.label or LABEL
    if label in names:
        return label
    if wanted.label is not None:
        raise InvalidDataset(f"label: there is no column {label[:80]!r}; {_there_are(names)}", field="preprocess")
    return None


def _plan(names: Sequence[str], label: str | None, wanted: TablePreprocess) -> list[_Planned]:
    """The arrays to make, by name. Raises `InvalidDataset` for columns that are not there or do not fit."""
    features = [name for name in names if name != label]
    if wanted.columns is None:
        planned = _grouped(features)
    else:
        for column in sorted({column for columns in wanted.columns.values() for column in columns}):
            if column not in names:
                raise InvalidDataset(
                    f"columns: there is no column {column[:80]!r}; {_there_are(names)}", field="preprocess"
                )
        planned = [_Planned(name, columns, True) for name, columns in wanted.columns.items()]
    if not planned:
        raise InvalidDataset("the table holds no column beside labels; name its columns after the model's inputs")
    made = {array.name for array in planned}
    if LABEL in made:
        raise InvalidDataset(f"no array can be called '{LABEL}', which is for the labels", field="preprocess")
    for name in wanted.dtype:
        if name not in made:
            raise InvalidDataset(
                f"dtype: there is no array {name[:80]!r}; {_there_are(sorted(made))}", field="preprocess"
            )
    return planned


def _grouped(features: Sequence[str]) -> list[_Planned]:
    """One array a column, but columns `x.0`, `x.1`, … together."""
    groups: dict[str, dict[int, str]] = {}
    for name in features:
        if (match := _NUMBERED.match(name)) is not None:
            groups.setdefault(match[1], {})[int(match[2])] = name
    groups = {base: members for base, members in groups.items() if 0 in members}
    for base, members in groups.items():
        if base in features:
            raise InvalidDataset(f"the table has both a column {base[:80]!r} and columns '{base[:80]}.0', …")
        if max(members) != len(members) - 1:
            gap = next(index for index in range(len(members)) if index not in members)
            raise InvalidDataset(f"the table has columns '{base[:80]}.0' to '.{max(members)}', but no '.{gap}'")
    grouped = {name for members in groups.values() for name in members.values()}
    planned = [_Planned(name, (name,), False) for name in features if name not in grouped]
    planned += [
        _Planned(base, tuple(name for _, name in sorted(members.items())), True) for base, members in groups.items()
    ]
    return planned


def _survey(
    table: TableFile, columns: Sequence[str], label: str | None
) -> tuple[int, dict[str, _Column], frozenset[str]]:
    """Read all once: the number of rows, what each column is, and the classes where labels are text."""
    rows = 0
    found: dict[str, _Column] = {}
    classes: set[str] = set()
    for batch in table.batches(columns):
        for name, array in batch.items():
            kind = "i" if array.dtype.kind == "u" else array.dtype.kind
            known = found.setdefault(name, _Column(kind, array.shape[1:]))
            check_shape(name, rows + 1, array.shape[1:], known.shape)
            if (known.kind == "O") != (kind == "O"):
                raise InvalidDataset(f"column {name[:80]!r} mixes text and numbers, seen from row {rows + 1} on")
            known.kind = max(known.kind, kind, key="bifO".index)
        if label is not None and found[label].kind == "O":
            classes.update(batch[label])
            if len(classes) > MAX_CLASSES:
                raise InvalidDataset(f"the labels in column {label[:80]!r} are of more than {MAX_CLASSES} classes")
        rows += len(batch[columns[0]])
    if label is not None and rows and found[label].shape:
        raise InvalidDataset(f"the labels in column {label[:80]!r} are lists; each must be one class")
    if rows == 0:
        raise InvalidDataset("the table holds no rows; a dataset needs at least 1 sample")
    return rows, found, frozenset(classes)


def _spec(array: _Planned, found: dict[str, _Column], rows: int, wanted: TablePreprocess) -> ArraySpec:
    """The array's dtype and shape, from those of its columns."""
    columns = [found[name] for name in array.columns]
    for name, column in zip(array.columns, columns, strict=True):
        if column.kind == "O":
            raise InvalidDataset(
                f"column {name[:80]!r} is text; only the label may be. Choose the columns to use with"
                ' preprocess {"columns": {array: [column, …]}}'
            )
        if 0 in column.shape:
            raise InvalidDataset(f"column {name[:80]!r} holds empty lists")
        if len(columns) > 1 and column.shape:
            raise InvalidDataset(f"column {name[:80]!r} holds lists, and cannot be put beside others in {array.name!r}")
    kind = max((column.kind for column in columns), key="bif".index)
    dtype = np.dtype(wanted.dtype[array.name]) if array.name in wanted.dtype else _DTYPES[kind]
    inner = (len(columns),) if _is_stacked(array, columns[0].shape) else columns[0].shape
    return ArraySpec(array.name, OIP_NAMES[dtype], (rows, *inner))


def _is_stacked(array: _Planned, shape: tuple[int, ...]) -> bool:
    """A list column that is named alone keeps its own shape."""
    return array.stacked and not shape


def _values(array: _Planned, spec: ArraySpec, batch: Batch, before: int) -> Array:
    """The rows of `batch` as `array` has them."""
    dtype = NUMPY_TYPES[spec.dtype]
    parts = [_cast(batch[column], dtype, column, before) for column in array.columns]
    return np.stack(parts, axis=1) if _is_stacked(array, parts[0].shape[1:]) else parts[0]


def _cast(values: Array, dtype: np.dtype[Any], column: str, before: int) -> Array:
    """`values` as `dtype`; raises `InvalidDataset` naming the first row whose value it cannot hold."""
    with np.errstate(all="ignore"):
        cast: Array = values.astype(dtype)
        if dtype.kind == "f":
            wrong = ~np.isfinite(cast)
        else:  # there and back; the sign is what a wrap-around between signed and unsigned hides
            wrong = (cast.astype(values.dtype) != values) | ((values < 0) != (cast < 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))[0])
        value = values[row][wrong[row]].reshape(-1)[0]
        kind = "NaN or infinity" if not np.isfinite(value) else f"{value}, which {dtype} cannot hold"
        raise InvalidDataset(f"row {before + row + 1} has in column {column[:80]!r} {kind}")
    return cast


def _labels(values: Array, class_names: tuple[str, ...] | None, before: int) -> Array:
    if class_names is None:
        return checked_labels(values, before)
    index = {name: position for position, name in enumerate(class_names)}
    return np.array([index[name] for name in values], np.int64)


def _there_are(names: Sequence[str]) -> str:
    return f"there are {', '.join(repr(name[:80]) for name in names[:16]) or 'none'}"
