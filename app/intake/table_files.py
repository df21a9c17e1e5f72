"""Tables as they come: `.csv`, `.jsonl`, `.parquet`, each read in batches of rows, any number of times.

A batch has each wanted column as an array `(rows, …)` of bool, integers or floats, or of text: objects that are
all `str`. Rows are counted from 1, without a header. What is missing, ragged or of another type is refused here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from app.engines.engine import Array
from app.errors import InvalidDataset

MAX_COLUMNS = 20_000
MAX_LINE_BYTES = 64 * 1024**2
_CSV_BLOCK_BYTES = 16 * 1024**2
_ROWS = 1024
_MAX_NESTING = 16

#: What a CSV column can be, from the strictest pattern to the loosest.
_CSV_KINDS: dict[str, tuple[str, Any]] = {
    "int": (r"^[ \t]*-?[0-9]+[ \t]*$", pa.int64()),
    "bool": (r"^[ \t]*(true|false|True|False|TRUE|FALSE)[ \t]*$", pa.bool_()),
    "float": (r"^[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*$", pa.float64()),
}

Batch = dict[str, Array]


class TableFile(Protocol):
    """A table in a file. `names`: its columns, in order."""

    names: tuple[str, ...]

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """The rows, front to back. Raises `InvalidDataset` naming the row and column that cannot be used."""
        ...


class CsvFile:
    """A CSV with a header. A column is integers, bools or floats if all of its values are, else text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kinds: dict[str, str] = {}
        with path.open("rb") as opened, _refused("CSV"):
            names: list[str] = pyarrow.csv.open_csv(opened, pyarrow.csv.ReadOptions(**self._reading)).schema.names
        self.names = _checked_names(names)

    @property
    def _reading(self) -> dict[str, Any]:
        return {"use_threads": False, "block_size": _CSV_BLOCK_BYTES}

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        self._find_kinds(columns)
        for _, batch in self._text_batches(columns):
            yield {name: self._typed(batch.column(name), name) for name in columns}

    def _text_batches(self, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """Batches of strings, each with the number of rows before it."""
        conversion = pyarrow.csv.ConvertOptions(
            include_columns=list(columns),
            column_types={name: pa.string() for name in columns},
            strings_can_be_null=True,
        )
        before = 0
        with self._path.open("rb") as opened, _refused("CSV"):
            reading = pyarrow.csv.ReadOptions(**self._reading)
            for batch in pyarrow.csv.open_csv(opened, reading, convert_options=conversion):
                yield before, batch
                before += batch.num_rows

    def _find_kinds(self, columns: Sequence[str]) -> None:
        """Read all once to learn each column's kind: types found in the first rows alone would not hold."""
        possible = {name: list(_CSV_KINDS) for name in columns if name not in self._kinds}
        if not possible:
            return
        for before, batch in self._text_batches(columns):
            for name, kinds in possible.items():
                column = batch.column(name)
                _check_present(column, name, before, 1)
                possible[name] = [
                    kind
                    for kind in kinds
                    if pc.all(pc.match_substring_regex(column, _CSV_KINDS[kind][0])).as_py() is not False
                ]
        self._kinds |= {name: (kinds or ["text"])[0] for name, kinds in possible.items()}

    def _typed(self, column: Any, name: str) -> Array:
        kind = self._kinds[name]
        if kind == "text":
            return _text(column)
        trimmed = pc.replace_substring_regex(column, r"^[ \t]*\+?", "")
        try:
            array: Array = pc.cast(pc.utf8_trim_whitespace(trimmed), _CSV_KINDS[kind][1]).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid as error:
            raise InvalidDataset(
                f"column {name[:80]!r} holds a number that is out of range: {_first(error)}"
            ) from error
        return array


class ParquetFile:
    """A Parquet file; its nested lists become further axes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as opened, _refused("Parquet"):
            names: list[str] = pyarrow.parquet.ParquetFile(opened).schema_arrow.names
        self.names = _checked_names(names)

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        before = 0
        with self._path.open("rb") as opened, _refused("Parquet"):
            table = pyarrow.parquet.ParquetFile(opened)
            for batch in table.iter_batches(_ROWS, columns=list(columns), use_threads=False):
                yield {name: _nested(batch.column(name), name, before, 1, 0) for name in columns}
                before += batch.num_rows


class JsonLinesFile:
    """One JSON object a line; numbers, or lists of them to any depth, all of one shape."""

    def __init__(self, path: Path) -> None:
        self._path = path
        names: dict[str, None] = {}
        for _, row in self._rows():
            names.update(dict.fromkeys(row))
            if len(names) > MAX_COLUMNS:
                break
        self.names = _checked_names(list(names))

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        before, rows = 0, []
        for number, row in self._rows():
            rows.append(row)
            if len(rows) == _ROWS:
                yield _batch_of(rows, columns, before)
                before, rows = number, []
        if rows:
            yield _batch_of(rows, columns, before)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._path.open("rb") as opened:
            number = 0
            for line in _lines(opened):
                if not line.strip():
                    continue
                number += 1
                try:
                    row = orjson.loads(line)
                except ValueError as error:
                    raise InvalidDataset(f"row {number} is not valid JSON: {_first(error)}") from error
                if not isinstance(row, dict):
                    raise InvalidDataset(f"row {number} is not a JSON object, {{column: value, …}}")
                yield number, row


def _lines(opened: BinaryIO) -> Iterator[bytes]:
    first = True
    while line := opened.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise InvalidDataset(f"a line is over {MAX_LINE_BYTES} bytes; put one sample on each line")
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False


def _batch_of(rows: list[dict[str, Any]], columns: Sequence[str], before: int) -> Batch:
    return {name: _from_json([row.get(name) for row in rows], name, before) for name in columns}


def _from_json(values: list[Any], name: str, before: int) -> Array:
    """The values of rows from `before` on as one array."""
    if all(isinstance(value, str) for value in values):
        return _objects(values)
    try:
        array = np.array(values)
        if array.dtype.kind in "biuf":
            return array
    except (ValueError, OverflowError):
        pass  # ragged, or mixed: which row it is, is found below
    shape: tuple[int, ...] | None = None
    for number, value in enumerate(values, start=before + 1):
        if value is None:
            raise _missing(name, number)
        try:
            kind, got = (row := np.array(value)).dtype.kind, row.shape
        except (ValueError, OverflowError):
            raise InvalidDataset(f"row {number} has a ragged list in column {name[:80]!r}") from None
        if kind not in "biuf":
            raise InvalidDataset(f"row {number} has in column {name[:80]!r} neither a number nor numbers in lists")
        check_shape(name, number, got, shape if shape is not None else got)
        shape = got
    raise InvalidDataset(f"column {name[:80]!r} holds numbers of which some are out of range")


def check_shape(name: str, number: int, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise unless the value of row `number` has the shape that the rows before have."""
    if got != expected:
        raise InvalidDataset(
            f"column {name[:80]!r} is ragged: row {number} has shape {got}, the rows before have {expected}"
        )


def _nested(column: Any, name: str, before: int, per_row: int, depth: int) -> Array:
    """An Arrow array as NumPy: `per_row` of its values belong to each row, of which `before` came before."""
    _check_present(column, name, before, per_row)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        array: Array = column.to_numpy(zero_copy_only=False)
        return array
    if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and depth == 0:
        return _text(column)
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or depth == _MAX_NESTING:
        raise InvalidDataset(
            f"column {name[:80]!r} is of the type {str(kind)[:80]}; numbers, bools, lists of them, and text labels"
            " are accepted"
        )
    rows = len(column)
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    for index in np.flatnonzero(lengths != lengths[:1])[:1]:
        number = before + int(index) // per_row + 1
        check_shape(name, number, (int(lengths[index]),), (int(lengths[0]),))
    length = int(lengths[0]) if rows else 0
    inner = _nested(column.flatten(), name, before, per_row * max(length, 1), depth + 1)
    return inner.reshape(rows, length, *inner.shape[1:])


def _check_present(column: Any, name: str, before: int, per_row: int) -> None:
    if column.null_count:
        first = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise _missing(name, before + first // per_row + 1)


def _missing(name: str, number: int) -> InvalidDataset:
    return InvalidDataset(f"row {number} has no value in column {name[:80]!r}; fill it in, or leave the row out")


def _text(column: Any) -> Array:
    return _objects(column.to_pylist())


def _objects(values: Sequence[str]) -> Array:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def _checked_names(names: list[str]) -> tuple[str, ...]:
    if len(names) > MAX_COLUMNS:
        raise InvalidDataset(f"the table has more than {MAX_COLUMNS} columns; use list columns, or .npz")
    for name in names:
        if not name.strip() or len(name) > 512 or not name.isprintable():
            raise InvalidDataset(f"the table has a column with the unusable name {name[:80]!r}")
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise InvalidDataset(f"the table has two columns called {min(twice)[:80]!r}")
    return tuple(names)


@contextmanager
def _refused(kind: str) -> Iterator[None]:
    """What Arrow raises for a broken file, as a sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"the file is not a readable {kind} table: {_first(error)}") from error


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
