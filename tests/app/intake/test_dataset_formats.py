"""One file and one row make a format: it can be uploaded, and every list of formats has it."""

import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.errors import InvalidDataset
from app.intake import sandbox
from app.intake.dataset import _imported
from app.intake.dataset_file import open_dataset
from app.intake.dataset_formats import FORMATS, endings
from tests.app.intake.conftest import Room
from tests.app.intake.text_matrix import ROW
from tests.app.web.markup import Page

_TESTS = Path(__file__).parents[2]
#: Of all formats, the toy last.
_ENDINGS = (*endings(), ".txt")
_DOCUMENT = """
from app.intake.dataset_formats import FORMATS
from tests.app.intake.text_matrix import ROW
FORMATS["text matrix"] = ROW

from typer.testing import CliRunner
from app.cli import app
print(CliRunner().invoke(app, ["upload", "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output)

from app.api import datasets
print(datasets.create.__annotations__["file"].__metadata__[0].description)
"""


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy format in the table; the process that checks uploads may read its file."""
    grant = sandbox.Grant

    def with_tests(*arguments: object, readable: tuple[Path, ...], **named: object) -> object:
        return grant(*arguments, readable=(*readable, _TESTS), **named)  # type: ignore[arg-type]

    monkeypatch.setitem(FORMATS, "text matrix", ROW)
    monkeypatch.setattr(sandbox, "Grant", with_tests)


def _upload(client: TestClient, filename: str, content: bytes, **fields: str):  # type: ignore[no-untyped-def]
    return client.post("/api/v1/datasets", files={"file": (filename, content)}, data={"name": "toy", **fields})


@pytest.mark.usefixtures("row")
def test_a_new_format_is_uploaded_with_its_options(client: TestClient) -> None:
    answer = _upload(client, "samples.TXT", b"1;2;3\n4;5;6\n", preprocess='{"input": "x", "separator": ";"}')
    assert answer.status_code == 201, answer.text
    assert answer.json()["arrays"] == [{"name": "x", "dtype": "FP32", "shape": [2, 3]}]


@pytest.mark.usefixtures("row")
@pytest.mark.parametrize(
    ("filename", "content", "preprocess", "problem"),
    [
        ("samples.doc", b"1", "", f"accepted are {', '.join(_ENDINGS)}"),
        ("samples.txt", b"", "", f"as one of {', '.join(_ENDINGS)}"),
        ("samples.txt", b"one two", "", "not a matrix of numbers"),
        ("samples.txt", b"1", '{"seperator": ","}', "(known: input, separator)"),
    ],
)
def test_errors_name_the_new_format_and_its_options(
    client: TestClient, filename: str, content: bytes, preprocess: str, problem: str
) -> None:
    answer = _upload(client, filename, content, preprocess=preprocess)
    assert answer.status_code == 422
    assert problem in answer.json()["detail"]


@pytest.mark.usefixtures("row")
def test_the_form_of_the_dashboard_takes_the_new_format(client: TestClient) -> None:
    shown = Page(client.get("/datasets").text)
    assert ("accept", ",".join(_ENDINGS)) in shown.attributes
    assert ROW.content in shown.text


def test_the_help_and_the_document_list_the_new_format() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", _DOCUMENT], capture_output=True, text=True, check=True, cwd=_TESTS.parent
    ).stdout
    assert f"({', '.join(_ENDINGS)})" in " ".join(shown.split())
    assert "`.csv`, `.jsonl`, `.parquet`: a table, whose columns become arrays · `" in shown
    assert f" · `.txt`: {ROW.content}" in shown


@pytest.mark.usefixtures("row")
def test_what_a_format_reads_is_a_dataset(room: Room) -> None:
    checked = room.dataset("samples.txt", b"1 2\n3 4\n5 6\n")
    assert open_dataset(checked.path).arrays["input"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_format_without_options_rejects_them(room: Room) -> None:
    with pytest.raises(InvalidDataset, match=r"preprocess is not for \.npz files") as error:
        room.dataset("samples.npz", b"1", '{"input": "x"}')
    assert error.value.field == "preprocess"


@pytest.mark.parametrize("name", FORMATS)
def test_the_documentation_lists_each_format_with_its_options(name: str) -> None:
    format_ = FORMATS[name]
    lines = (_TESTS.parent / "docs" / "datasets.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| `.")]
    (row,) = [row for row in cells if f"`{format_.endings[0]}`" in row[0]]
    options = list(_imported(format_.options).model_fields) if format_.options else []
    assert row[2].strip() == (", ".join(f"`{option}`" for option in options) or "none")
