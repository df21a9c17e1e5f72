"""A blob store whose bytes are not files: what the code may assume of a store, this one grants, and no more."""

import io
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from app.errors import MissingBlob, NoSpace
from app.settings import Settings

ROW = "tests.blob_stores:SqliteBlobStore"


class SqliteBlobStore:
    """Blobs as rows of an SQLite database. A lease is a temporary copy, overwritten and removed when the lease ends."""

    #: The digests of all leases in force, of all stores of this process.
    leased: list[str] = []  # noqa: RUF012

    def __init__(self, database: Path, leases: Path) -> None:
        self._database = database
        self._leases = leases
        for folder in (database.parent, leases):
            folder.mkdir(parents=True, exist_ok=True)
        self._execute("CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, content BLOB NOT NULL)")

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> Self:
        return cls(Path(urlsplit(url).path), settings.home / "leases")

    def put(self, path: Path, digest: str) -> None:
        try:
            self._execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", digest, path.read_bytes())
        except sqlite3.OperationalError as error:
            raise NoSpace("the database of the blobs is full") from error
        path.unlink()

    def delete(self, digest: str) -> None:
        self._execute("DELETE FROM blobs WHERE digest = ?", digest)

    def exists(self, digest: str) -> bool:
        return bool(self._execute("SELECT 1 FROM blobs WHERE digest = ?", digest))

    def size(self, digest: str) -> int:
        for (size,) in self._execute("SELECT length(content) FROM blobs WHERE digest = ?", digest):
            return int(size)
        raise MissingBlob(digest)

    def open(self, digest: str, start: int = 0, stop: int | None = None) -> BinaryIO:
        count = (self.size(digest) if stop is None else stop) - start
        for (content,) in self._execute(
            "SELECT substr(content, ?, ?) FROM blobs WHERE digest = ?", start + 1, count, digest
        ):
            return io.BytesIO(content)
        raise MissingBlob(digest)

    @contextmanager
    def materialize(self, digest: str) -> Iterator[Path]:
        path = self._leases / f"{digest}-{uuid.uuid4().hex}"
        path.write_bytes(self.open(digest).read())
        path.chmod(0o444)
        self.leased.append(digest)
        try:
            yield path
        finally:
            self.leased.remove(digest)
            path.chmod(0o600)
            # Whoever linked or mapped the file sees that the lease is over.
            path.write_bytes(bytes(path.stat().st_size))
            path.unlink()

    def diagnose(self, settings: Settings) -> str | None:
        return None

    def digests(self) -> Iterator[str]:
        return (digest for (digest,) in self._execute("SELECT digest FROM blobs"))

    def _execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self._database, timeout=30)) as connection, connection:
            return connection.execute(statement, values).fetchall()
