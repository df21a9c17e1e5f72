"""Blobs as responses: whole, or the ranges that a request asks for (RFC 9110, section 14)."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote

from anyio import CancelScope
from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from app.blobs import BlobStore

_MEDIA_TYPE = "application/octet-stream"
_CHUNK_BYTES = 256 * 1024
#: A request for more ranges gets the whole blob.
_MAX_RANGES = 100


@dataclass(frozen=True)
class Download:
    """A blob, and what the headers say of it."""

    digest: str
    filename: str
    modified: datetime

    @property
    def tag(self) -> str:
        return f'"{self.digest}"'

    @property
    def headers(self) -> dict[str, str]:
        quoted = quote(self.filename)
        filename = f'filename="{quoted}"' if quoted == self.filename else f"filename*=utf-8''{quoted}"
        return {
            "accept-ranges": "bytes",
            "content-disposition": f"attachment; {filename}",
            "etag": self.tag,
            "last-modified": format_datetime(self.modified.astimezone(UTC), usegmt=True),
        }


@dataclass(frozen=True)
class _Part:
    """The bytes of a blob from `start` up to `stop`; `heading` comes before them, `ending` after them."""

    start: int
    stop: int
    heading: bytes = b""
    ending: bytes = b""

    @property
    def size(self) -> int:
        return len(self.heading) + self.stop - self.start + len(self.ending)


def response(request: Request, blobs: BlobStore, download: Download) -> Response:
    """Answer with 200, 206, 304 or 416; with 400 when `Range` is malformed.

    Raises:
        MissingBlob: The store has no such blob.
    """
    if download.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": download.tag})
    size = blobs.size(download.digest)
    headers = download.headers
    ranges: list[tuple[int, int]] = []
    # A strong validator that matches, or none: else the client has a part of something else.
    if request.headers.get("if-range", download.tag) in {download.tag, headers["last-modified"]}:
        try:
            ranges = _ranges(request.headers.get("range"), size)
        except ValueError as error:
            return PlainTextResponse(str(error), status_code=400)
        except IndexError:
            return PlainTextResponse(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    parts, media_type = [_Part(0, size)], _MEDIA_TYPE
    if len(ranges) == 1:
        ((start, stop),) = ranges
        parts = [_Part(start, stop)]
        headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    elif ranges:
        boundary = secrets.token_hex(13)
        parts = _multipart(ranges, size, boundary)
        media_type = f"multipart/byteranges; boundary={boundary}"
    headers["content-length"] = str(sum(part.size for part in parts))
    content = _content(blobs, download.digest, parts)
    return StreamingResponse(content, 206 if ranges else 200, headers, media_type)


def _ranges(header: str | None, size: int) -> list[tuple[int, int]]:
    """The ranges of `header` as (start, stop), in order and apart; none where all of the blob is asked for.

    Raises:
        ValueError: The header is malformed.
        IndexError: A range starts outside of the blob.
    """
    if header is None:
        return []
    unit, equals, listed = header.partition("=")
    if not equals:
        raise ValueError("Malformed range header.")
    if unit.strip().lower() != "bytes":
        raise ValueError("Only support bytes range")
    if listed.count(",") >= _MAX_RANGES:
        return []
    ranges = sorted(found for each in listed.split(",") if (found := _range(each, size)) is not None)
    if not ranges:
        raise ValueError("Range header: range must be requested")
    if ranges[-1][0] >= size:
        raise IndexError
    if any(start >= stop for start, stop in ranges):
        raise ValueError("Range header: start must be less than end")
    merged = ranges[:1]
    for start, stop in ranges[1:]:
        if start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _range(text: str, size: int) -> tuple[int, int] | None:
    """`a-b`, `a-` or `-n` as (start, stop); None for anything else."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        return None
    try:
        if first:
            return int(first), min(int(last) + 1, size) if last else size
        return max(size - int(last), 0), size
    except ValueError:
        return None


def _multipart(ranges: Sequence[tuple[int, int]], size: int, boundary: str) -> list[_Part]:
    parts = [
        _Part(
            start,
            stop,
            heading=f"--{boundary}\r\nContent-Type: {_MEDIA_TYPE}\r\n"
            f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n\r\n".encode(),
            ending=b"\r\n",
        )
        for start, stop in ranges
    ]
    return [*parts, _Part(0, 0, ending=f"--{boundary}--".encode())]


async def _content(blobs: BlobStore, digest: str, parts: Sequence[_Part]) -> AsyncIterator[bytes]:
    for part in parts:
        if part.heading:
            yield part.heading
        if part.start < part.stop:
            stream = await run_sync(blobs.open, digest, part.start, part.stop)
            try:
                left = part.stop - part.start
                while left:
                    chunk = await run_sync(stream.read, min(_CHUNK_BYTES, left))
                    if not chunk:
                        raise EOFError(f"blob {digest} ends {left} bytes early")
                    left -= len(chunk)
                    yield chunk
            finally:
                with CancelScope(shield=True):
                    await run_sync(stream.close)
        if part.ending:
            yield part.ending
