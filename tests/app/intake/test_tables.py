import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from app.errors import InvalidDataset, TooLarge
from app.intake import table_files
from app.intake.artifacts import ArraySpec, CheckedDataset, Limits
from app.intake.dataset_file import open_dataset
from tests.app.intake.conftest import Room


def parquet(table: dict[str, Any] | pa.Table, **how: Any) -> bytes:
    made = io.BytesIO()
    pyarrow.parquet.write_table(table if isinstance(table, pa.Table) else pa.table(table), made, **how)
    return made.getvalue()


def lines(*rows: object) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


def arrays(checked: CheckedDataset) -> dict[str, Any]:
    opened = open_dataset(checked.path)
    return {name: array.tolist() for name, array in opened.arrays.items()} | (
        {"label": opened.labels.tolist()} if opened.labels is not None else {}
    )


CSV = b"a,x.0,x.1,ok,label\n1,0.5,1,true,dog\n-2,1e2,2,false,cat\n3,-.25, 3 ,True,dog\n"
JSONL = lines(
    {"a": 1, "x": [0.5, 1], "ok": True, "label": "dog"},
    {"label": "cat", "a": -2, "x": [100, 2], "ok": False},
    {
        "a": 3,
        "x": [-0.25, 3],
        "ok": True,
        "label": "dog",
    },
)
PARQUET = parquet(
    {
        "a": pa.array([1, -2, 3], pa.int16()),
        "x": pa.array([[0.5, 1], [100, 2], [-0.25, 3]], pa.list_(pa.float64())),
        "ok": [True, False, True],
        "label": pa.array(["dog", "cat", "dog"]).dictionary_encode(),
    }
)


@pytest.mark.parametrize(
    ("filename", "content"),
    [("d.csv", CSV), ("d.jsonl", JSONL), ("d.parquet", PARQUET), ("D.CSV", b"\xef\xbb\xbf" + CSV)],
)
def test_columns_become_arrays_and_text_labels_classes(room: Room, filename: str, content: bytes) -> None:
    checked = room.dataset(filename, content)
    assert checked.arrays == (
        ArraySpec("a", "INT64", (3,)),
        ArraySpec("ok", "BOOL", (3,)),
        ArraySpec("x", "FP32", (3, 2)),
    )
    assert checked.class_names == ("cat", "dog")
    assert arrays(checked) == {
        "a": [1, -2, 3],
        "ok": [True, False, True],
        "x": [[0.5, 1], [100, 2], [-0.25, 3]],
        "label": [1, 0, 1],
    }


def test_the_same_table_is_the_same_dataset_in_every_format(room: Room) -> None:
    digests = set()
    for filename, content in (("d.csv", CSV), ("d.jsonl", JSONL), ("d.parquet", PARQUET)):
        digests.add(room.dataset(filename, content).digest)
        room.clear()
    assert len(digests) == 1


def test_columns_are_chosen_and_stacked_as_asked(room: Room) -> None:
    content = b"width,height,weight,species\n1,2,3,0\n4,5,6.5,1\n"
    preprocess = {
        "columns": {"size": ["height", "width"], "one": ["weight"]},
        "label": "species",
        "dtype": {"size": "int32", "one": "float64"},
    }
    checked = room.dataset("d.csv", content, json.dumps(preprocess))
    assert checked.arrays == (ArraySpec("one", "FP64", (2, 1)), ArraySpec("size", "INT32", (2, 2)))
    assert checked.class_names is None
    assert arrays(checked) == {"size": [[2, 1], [5, 4]], "one": [[3], [6.5]], "label": [0, 1]}


def test_numbered_columns_are_in_the_order_of_their_numbers(room: Room) -> None:
    names = [f"x.{i}" for i in range(12)]
    content = (",".join(reversed(names)) + "\n" + ",".join(str(i) for i in reversed(range(12)))).encode()
    assert arrays(room.dataset("d.csv", content)) == {"x": [list(range(12))]}
    room.clear()
    assert arrays(room.dataset("d.csv", b"v1.5,v1.7\n1,2\n")) == {"v1.5": [1], "v1.7": [2]}


def test_nested_lists_become_further_axes(room: Room) -> None:
    nested = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    for filename, content in (
        ("d.jsonl", lines(*({"x": value} for value in nested))),
        ("d.parquet", parquet({"x": nested})),
        ("d.parquet", parquet({"x": pa.array(nested, pa.list_(pa.list_(pa.int32(), 3), 2))})),
    ):
        checked = room.dataset(filename, content)
        assert checked.arrays == (ArraySpec("x", "INT64", (2, 2, 3)),)
        assert arrays(checked) == {"x": nested}
        room.clear()


def test_a_columns_type_is_that_of_all_rows_not_of_the_first(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_CSV_BLOCK_BYTES", 64)
    monkeypatch.setattr(table_files, "_ROWS", 8)
    values = [*range(100), 0.5]
    classes = [*("1" for _ in range(100)), "one"]
    csv = ("x,label\n" + "".join(f"{x},{c}\n" for x, c in zip(values, classes, strict=True))).encode()
    jsonl = lines(*({"x": x, "label": c} for x, c in zip(values, classes, strict=True)))
    for filename, content in (("d.csv", csv), ("d.jsonl", jsonl)):
        checked = room.dataset(filename, content)
        assert checked.arrays == (ArraySpec("x", "FP32", (101,)),)
        assert checked.class_names == ("1", "one")
        assert arrays(checked) == {"x": values, "label": [0] * 100 + [1]}
        room.clear()


def test_long_tables_are_read_in_batches_and_rows_counted_through(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_CSV_BLOCK_BYTES", 64)
    monkeypatch.setattr(table_files, "_ROWS", 8)
    rows = [{"i": i, "x": [i, 2 * i]} for i in range(50)]
    for filename, content in (("d.jsonl", lines(*rows)), ("d.parquet", parquet(pa.Table.from_pylist(rows)))):
        assert arrays(room.dataset(filename, content))["x"] == [row["x"] for row in rows]
        room.clear()
    rows[42]["x"] = [1, 2, 3]
    for filename, content in (("d.jsonl", lines(*rows)), ("d.parquet", parquet(pa.Table.from_pylist(rows)))):
        with pytest.raises(InvalidDataset, match="column 'x' is ragged: row 43"):
            room.dataset(filename, content)
    csv = "".join(f"{i},{i}\n" for i in range(50)).replace("\n42,42\n", "\n42,\n")
    with pytest.raises(InvalidDataset, match="row 43 has no value in column 'x'"):
        room.dataset("d.csv", ("i,x\n" + csv).encode())


def test_dtypes_are_converted_where_they_can_hold_the_values(room: Room) -> None:
    table = {"i": pa.array([0, 255], pa.uint64()), "f": [1.0, 2.0], "b": [0, 1], "h": pa.array([1, 2], pa.float16())}
    preprocess = {"dtype": {"i": "uint8", "f": "int16", "b": "bool", "h": "float16"}}
    checked = room.dataset("d.parquet", parquet(table), json.dumps(preprocess))
    assert {spec.name: spec.dtype for spec in checked.arrays} == {"i": "UINT8", "f": "INT16", "b": "BOOL", "h": "FP16"}
    assert arrays(checked) == {"i": [0, 255], "f": [1, 2], "b": [False, True], "h": [1, 2]}


def test_an_unused_column_may_hold_anything(room: Room) -> None:
    content = lines({"x": 1, "note": "hello"}, {"x": 2}, {"x": 3, "note": None})
    assert arrays(room.dataset("d.jsonl", content, '{"columns": {"input": ["x"]}}')) == {"input": [[1], [2], [3]]}
    room.clear()
    content = parquet({"x": [[1, 2]], "when": pa.array([0], pa.timestamp("s"))})
    assert arrays(room.dataset("d.parquet", content, '{"columns": {"input": ["x"]}}')) == {"input": [[1, 2]]}


BIG = 2**63

WRONG_TABLES: list[tuple[str, bytes, str]] = [
    ("d.csv", b"", "empty"),
    ("d.csv", b"\n", "CSV"),
    ("d.csv", b"a,b\n", "no rows"),
    ("d.csv", b"label\n1\n", "beside labels"),
    ("d.csv", b"a,b\n1\n", "Expected 2 columns, got 1"),
    ("d.csv", b"a,b\n1,2\n1,\n", "row 2 has no value in column 'b'"),
    ("d.csv", b"a,b\n1,2\nNaN,3\n", "row 2 has no value in column 'a'"),
    ("d.csv", b"a,b\n1,2\ninf,3\n", "'a' is text"),
    ("d.csv", b"a\n1\n1e999\n", "row 2 has in column 'a' NaN or infinity"),
    ("d.csv", b"a\n1.5\n1e39\n", r"row 2 has in column 'a' 1e\+39, which float32 cannot hold"),
    ("d.csv", b"a\n99999999999999999999\n", "out of range"),
    ("d.csv", b"a\n0x10\n", "'a' is text"),
    ("d.csv", b"a,b\n1,red\n2,blue\n", "'b' is text; only the label may be"),
    ("d.csv", b"a,a\n1,2\n", "two columns called 'a'"),
    ("d.csv", b"a,\n1,2\n", "unusable name"),
    ("d.csv", b"x,x.0\n1,2\n", "both a column 'x'"),
    ("d.csv", b"x.0,x.1,x.3\n1,2,3\n", r"no '\.2'"),
    ("d.csv", b"a\n\xff\xfe\n", "CSV"),
    ("d.csv", b"a,label\n1,0\n2,-1\n", "label of sample 1 is -1"),
    ("d.csv", b"a,label\n1,0\n2,0.5\n", "label of sample 1 is 0.5"),
    ("d.csv", b"\x00" * 100, "CSV|unusable"),
    ("d.jsonl", b"", "empty"),
    ("d.jsonl", b"\n\n", "beside labels"),
    ("d.jsonl", b"[1, 2]", "row 1 is not a JSON object"),
    ("d.jsonl", lines({"a": 1}, "{"), "row 2 is not valid JSON"),
    ("d.jsonl", lines({"a": 1}, '{"a": NaN}'), "row 2 is not valid JSON"),
    ("d.jsonl", b'{"a": ' + b"[" * 250_000 + b"]" * 250_000 + b"}", "row 1 is not valid JSON"),
    ("d.jsonl", b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "row 1"),
    ("d.jsonl", lines({"a": 1}, {"b": 1}), "row 2 has no value in column 'a'"),
    ("d.jsonl", lines({"a": 1}, {"a": None}), "row 2 has no value in column 'a'"),
    ("d.jsonl", lines({"a": [1, None]}), "row 1 has in column 'a' neither"),
    ("d.jsonl", lines({"a": [1, 2]}, {"a": [1, 2, 3]}), "column 'a' is ragged: row 2"),
    ("d.jsonl", lines({"a": [[1], [2, 3]]}), "row 1 has a ragged list in column 'a'"),
    ("d.jsonl", lines({"a": []}), "empty lists"),
    ("d.jsonl", lines({"a": 1}, {"a": "one"}), "row 2 has in column 'a' neither"),
    ("d.jsonl", lines({"a": "one"}), "'a' is text"),
    ("d.jsonl", lines({"a": {"b": 1}}), "neither a number"),
    ("d.jsonl", lines({"a": BIG}), "cannot hold"),
    ("d.jsonl", lines({"a": [1], "label": [1]}), "labels in column 'label' are lists"),
    ("d.jsonl", lines({"a\n": 1}), "unusable name"),
    ("d.jsonl", b"\xff\xfe{}", "row 1 is not valid JSON"),
    ("d.parquet", b"", "empty"),
    ("d.parquet", b"PAR1 and more", "Parquet"),
    ("d.parquet", PARQUET[:-10], "Parquet"),
    ("d.parquet", PARQUET[:4] + b"\xff" * 300 + PARQUET[304:], "Parquet"),
    ("d.parquet", parquet({"a": pa.array([], pa.int64())}), "no rows"),
    ("d.parquet", parquet({"a": [1, None]}), "row 2 has no value in column 'a'"),
    ("d.parquet", parquet({"a": [[1, 2], None]}), "row 2 has no value in column 'a'"),
    ("d.parquet", parquet({"a": [[1, 2], [3, None]]}), "row 2 has no value in column 'a'"),
    ("d.parquet", parquet({"a": [[1, 2], [3]]}), "column 'a' is ragged: row 2"),
    ("d.parquet", parquet({"a": [[[1], [2]], [[3], [4, 5]]]}), "column 'a' is ragged: row 2"),
    ("d.parquet", parquet({"a": [[], []]}), "'a' is of the type|empty lists"),
    ("d.parquet", parquet({"a": pa.array([[], []], pa.list_(pa.int64()))}), "empty lists"),
    ("d.parquet", parquet({"a": [1.0, float("nan")]}), "row 2 has in column 'a' NaN or infinity"),
    ("d.parquet", parquet({"a": [0], "t": pa.array([0], pa.timestamp("s"))}), r"'t' is of the type timestamp\[ms\]"),
    ("d.parquet", parquet({"a": [{"b": 1}]}), "'a' is of the type struct"),
    ("d.parquet", parquet({"a": pa.array([2**63], pa.uint64())}), "9223372036854775808, which int64 cannot hold"),
]


@pytest.mark.parametrize(("filename", "content", "words"), WRONG_TABLES)
def test_a_table_that_cannot_be_used_is_refused_by_row_and_column(
    room: Room, filename: str, content: bytes, words: str
) -> None:
    with pytest.raises(InvalidDataset, match=words) as refused:
        room.dataset(filename, content)
    assert refused.value.field == "file"
    assert str(room.path) not in refused.value.detail


@pytest.mark.parametrize(
    ("preprocess", "words", "field"),
    [
        ({"columns": {"x": ["nowhere"]}}, "no column 'nowhere'; there are 'a', 'b'", "preprocess"),
        ({"columns": {"x": []}}, "columns.x", "preprocess"),
        ({"columns": {}}, "beside labels", "file"),
        ({"columns": {"label": ["a"]}}, "called 'label'", "preprocess"),
        ({"label": "nowhere"}, "no column 'nowhere'", "preprocess"),
        ({"dtype": {"z": "int8"}}, "no array 'z'; there are 'a', 'b'", "preprocess"),
        ({"dtype": {"a": "complex64"}}, "dtype.a", "preprocess"),
        ({"dtype": {"a": "int8"}}, "row 2 has in column 'a' 300, which int8 cannot hold", "file"),
        ({"dtype": {"a": "uint64"}}, "row 3 has in column 'a' -1, which uint64 cannot hold", "file"),
        ({"dtype": {"b": "int32"}}, "row 1 has in column 'b' 0.5, which int32 cannot hold", "file"),
        ({"dtype": {"a": "bool"}}, "row 2 has in column 'a' 300, which bool cannot hold", "file"),
        ({"size": [1, 2]}, "known: columns, label, dtype", "preprocess"),
    ],
)
def test_a_wrong_plan_says_what_there_is(room: Room, preprocess: dict[str, Any], words: str, field: str) -> None:
    with pytest.raises(InvalidDataset, match=words) as refused:
        room.dataset("d.csv", b"a,b\n1,0.5\n300,1.5\n-1,2.5\n", json.dumps(preprocess))
    assert refused.value.field == field


def test_limits_hold_for_tables_too(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "MAX_LINE_BYTES", 20)
    with pytest.raises(InvalidDataset, match="a line is over 20 bytes"):
        room.dataset("d.jsonl", lines({"a": list(range(20))}))
    monkeypatch.setattr(table_files, "MAX_COLUMNS", 3)
    for filename, content in (("d.csv", b"a,b,c,d\n1,2,3,4\n"), ("d.jsonl", lines(*({c: 1} for c in "abcdef")))):
        with pytest.raises(InvalidDataset, match="more than 3 columns"):
            room.dataset(filename, content)
    room.limits = Limits(60, 5000)
    with pytest.raises(TooLarge, match="as arrays"):
        room.dataset("d.parquet", parquet({"x": np.zeros(100_000)}))
