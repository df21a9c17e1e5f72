"""Downloads answer as Starlette's `FileResponse` does for a file, whatever the blobs are kept in."""

from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient

from app.api import downloads
from app.api.downloads import Download
from app.blobs import open_store
from app.errors import MissingBlob
from app.settings import Settings
from tests.blob_stores import SqliteBlobStore

CONTENT = bytes(range(256)) * 3000
DIGEST = "ab" + "0" * 62


@pytest.fixture(params=["file", "sqlite"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> TestClient:
    """`/blob` is answered from a store, `/file` from a file of the same content and time."""
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    modified = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    elsewhere = SqliteBlobStore(tmp_path / "blobs.sqlite3", tmp_path / "leases")
    store = open_store(Settings(home=tmp_path)) if request.param == "file" else elsewhere
    (tmp_path / "new").write_bytes(CONTENT)
    store.put(tmp_path / "new", DIGEST)
    app = FastAPI()

    @app.get("/blob")
    def blob(request: Request, digest: str = DIGEST, filename: str = "x.onnx") -> Response:
        return downloads.response(request, store, Download(digest, filename, modified))

    @app.get("/file")
    def whole(filename: str = "x.onnx") -> Response:
        return FileResponse(
            file, media_type="application/octet-stream", filename=filename, headers={"ETag": f'"{DIGEST}"'}
        )

    return TestClient(app)


def _same(client: TestClient, query: str = "", **headers: str) -> int:
    """Compare both answers; returns their status."""
    blob, file = (client.get(f"/{kind}{query}", headers=headers) for kind in ("blob", "file"))
    boundaries = [answer.headers.get("content-type", "").partition("boundary=")[2] for answer in (blob, file)]
    found, expected = ((answer.status_code, dict(answer.headers), answer.content) for answer in (blob, file))
    if boundaries[1]:
        assert blob.content.replace(boundaries[0].encode(), boundaries[1].encode()) == file.content
        found = (found[0], {**found[1], "content-type": file.headers["content-type"]}, file.content)
    assert found == expected
    return blob.status_code


def test_a_whole_blob(client: TestClient) -> None:
    assert _same(client) == 200
    assert _same(client, "?filename=Gr%C3%BC%C3%9Fe 1.onnx") == 200


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=0-0", 206),
        ("bytes=100-300000", 206),
        ("bytes=767999-", 206),
        ("bytes=-5", 206),
        ("bytes=-9999999", 206),
        ("bytes=5-9999999", 206),
        ("BYTES = 1-2", 206),
        ("bytes=0-10, 20-30", 206),
        ("bytes=20-30,0-25", 206),
        ("bytes=1-2,x-y,-", 206),
        ("bytes=0-1," + ",".join(f"{n}-{n}" for n in range(3, 200, 2)), 206),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 400, 2)), 200),
        ("bytes=768000-", 416),
        ("bytes=-0", 416),
        ("bytes=0-5,768000-", 416),
        ("bytes=9-3", 400),
        ("bytes=9-3,768000-", 416),
        ("bytes=5", 400),
        ("bytes=", 400),
        ("pages=1-2", 400),
        ("nonsense", 400),
    ],
)  # fmt: skip
def test_ranges(client: TestClient, asked: str, status: int) -> None:
    assert _same(client, range=asked) == status


@pytest.mark.parametrize(
    ("tag", "status"), [(f'"{DIGEST}"', 206), ('"another"', 200), (f'W/"{DIGEST}"', 200), ("Mon, 01 Jan", 200)]
)
def test_a_range_of_another_version_gets_the_whole_blob(client: TestClient, tag: str, status: int) -> None:
    assert _same(client, **{"range": "bytes=1-2", "if-range": tag}) == status


def test_a_range_may_name_the_date_of_the_blob(client: TestClient) -> None:
    date = client.get("/blob").headers["last-modified"]
    assert _same(client, **{"range": "bytes=1-2", "if-range": date}) == 206
    assert _same(client, **{"range": "bytes=1-2", "if-range": formatdate(0, usegmt=True)}) == 200


def test_a_client_that_has_the_blob_gets_no_content(client: TestClient) -> None:
    answer = client.get("/blob", headers={"If-None-Match": f'W/"x", "{DIGEST}"'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", f'"{DIGEST}"')


def test_a_missing_blob_is_an_error_before_the_answer_begins(client: TestClient) -> None:
    with pytest.raises(MissingBlob):
        client.get(f"/blob?digest={'0' * 64}")
