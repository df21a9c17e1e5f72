"""The HTTP side of the client commands: one session, and the server's errors as sentences."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from app.errors import OctetError, Unavailable

if TYPE_CHECKING:
    import httpx

_CHUNK_BYTES = 1 << 20

_FINAL = {"succeeded", "failed", "cancelled"}

#: What `octet --api-key`, or OCTET_API_KEY, says.
API_KEY: ContextVar[str | None] = ContextVar("api_key", default=None)

#: Called with the bytes done so far.
Counter = Callable[[int], None]


class Refused(OctetError):
    """The server said no, and why."""


@dataclass(frozen=True)
class Connection:
    """A server, and the calls that the commands make of it."""

    http: "httpx.Client"

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer; raises `Refused` with the server's own words."""
        answer = self.call(method, path, **options)
        try:
            return answer.json()
        except ValueError as error:
            raise Refused(f"what answers at {self.http.base_url} is not Octet: {path} is not JSON") from error

    def call(self, method: str, path: str, **options: Any) -> "httpx.Response":
        with _reachable(self.http):
            answer = self.http.request(method, path, **options)
        _raise_for_error(answer)
        return answer

    def upload(self, path: str, file: Path, fields: dict[str, str], count: Counter) -> Any:
        """POST `file` as a form with `fields`, streamed from disk; returns the JSON answer."""
        with file.open("rb") as source:
            content: Any = _Counted(source, count)
            return self.json("POST", path, files={"file": (file.name, content)}, data=fields, timeout=None)

    def download(self, path: str, target: Path, count: Counter) -> None:
        """GET into `target`, which appears whole or not at all; raises `Refused` when it is not what ETag says."""
        if not target.parent.is_dir():
            raise Refused(f"there is no folder {target.parent} to download to")
        partial = target.with_name(target.name + ".part")
        digest = hashlib.sha256()
        try:
            with _reachable(self.http), self.http.stream("GET", path, timeout=None) as answer:
                if answer.is_error:
                    answer.read()
                    _raise_for_error(answer)
                with partial.open("wb") as out:
                    for chunk in answer.iter_bytes(_CHUNK_BYTES):
                        out.write(chunk)
                        digest.update(chunk)
                        count(out.tell())
            if digest.hexdigest() != answer.headers.get("ETag", "").strip('"'):
                raise Refused(f"the download of {target.name} arrived damaged; try again")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def events(self, job_id: str) -> Iterator[dict[str, Any]]:
        """A job's changes until it ends; a broken stream is taken up where it broke."""
        import json

        import httpx

        last_id: str | None = None
        next_id: str | None = None
        attempts = 0
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with self.http.stream("GET", f"/api/v1/jobs/{job_id}/events", headers=headers, timeout=30) as answer:
                    if answer.is_error:
                        answer.read()
                        _raise_for_error(answer)
                    for line in answer.iter_lines():
                        name, _, value = line.partition(":")
                        if name == "id":
                            next_id = value.strip()
                        if name == "data":
                            # An event cut off before its data was not had: it is asked for again.
                            last_id, attempts = next_id, 0
                            event = json.loads(value)
                            yield event
                            if event["state"] in _FINAL:
                                return
                cause = "its events ended before the job"
            except httpx.TransportError as error:
                cause = str(error)
            attempts += 1
            if attempts > 20:
                raise Unavailable(f"lost the server at {self.http.base_url}: {cause}")
            _pause()


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """A session with the server at `url`, which is shown the key of `API_KEY`."""
    import httpx

    key = API_KEY.get()
    # Not as Authorization, which httpx takes from ~/.netrc and URLs, too.
    headers = {"X-API-Key": key} if key is not None else {}
    with httpx.Client(base_url=url, timeout=60, headers=headers) as http:
        yield Connection(http)


class _Counted:
    """A file that tells how much of it was read; httpx streams it in pieces."""

    def __init__(self, source: IO[bytes], count: Counter) -> None:
        self._source = source
        self._count = count

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self._count(self._source.tell())
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(_CHUNK_BYTES):
            yield chunk


@contextmanager
def _reachable(http: "httpx.Client") -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        raise Unavailable(
            f"no answer from {http.base_url} ({error or type(error).__name__}): start one with `octet serve`, or name"
            " another with --url or OCTET_URL"
        ) from error


def _raise_for_error(answer: "httpx.Response") -> None:
    if not answer.is_error:
        return
    try:
        problem = answer.json()
        detail = problem.get("detail") or problem.get("error")
    except (ValueError, AttributeError):
        detail = None
    raise Refused(detail or f"the server answered {answer.status_code} {answer.reason_phrase}")


def _pause() -> None:
    import time

    time.sleep(0.5)
