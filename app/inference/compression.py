"""gzip and deflate, which requests may come in and answers of inference may leave in.

`deflate` is a zlib stream, as RFC 9110 has it and as Triton's clients send it.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence

from app.errors import Invalid, TooLarge, Unsupported

#: Encoding → zlib's `wbits`.
ENCODINGS = {"gzip": 31, "deflate": 15}

#: For tensors, levels beyond the fastest cost several times the time and save some percent.
_LEVEL = 1
_PIECE_BYTES = 1 << 20
_SAMPLE_BYTES = 4096
_WORTH = 0.8


def checked_encoding(header: str | None) -> str | None:
    """The encoding that `Content-Encoding` names, None for plain bodies. Raises `Unsupported` for any other."""
    encoding = (header or "").strip().lower()
    if encoding in {"", "identity"}:
        return None
    if encoding not in ENCODINGS:
        raise Unsupported(f"Content-Encoding '{encoding[:40]}' is not offered; {' and '.join(ENCODINGS)} are")
    return encoding


def decompressed(body: memoryview, encoding: str, max_bytes: int) -> memoryview:
    """What `body` unpacks to. Raises `Invalid` for a damaged body and `TooLarge` as soon as the cap is passed."""
    plain = bytearray()
    for piece in _unpacked(body, encoding):
        plain += piece
        if len(plain) > max_bytes:
            raise TooLarge(f"the body unpacks to more than the {max_bytes} bytes that a request may have")
    return memoryview(plain).toreadonly()


def _unpacked(body: memoryview, encoding: str) -> Iterator[bytes]:
    """Pieces of bounded size, whatever the ratio of a bomb."""
    position = 0
    stream = zlib.decompressobj(ENCODINGS[encoding])
    while True:
        given = body[position : position + _PIECE_BYTES]
        try:
            piece = stream.decompress(given, _PIECE_BYTES)
        except zlib.error as error:
            raise Invalid(f"the body is not {encoding}: {error}") from error
        position += len(given) - len(stream.unconsumed_tail) - len(stream.unused_data)
        yield piece
        if stream.eof:
            if position == len(body):
                return
            # gzip streams may follow one another in one body; zlib's may not.
            if encoding != "gzip":
                raise Invalid(f"unexpected data follow the end of the {encoding} stream")
            stream = zlib.decompressobj(ENCODINGS[encoding])
        elif not given and not piece:
            raise Invalid(f"the body is cut off: its {encoding} stream has no end")


def accepted(header: str | None) -> str | None:
    """The encoding that `Accept-Encoding` prefers among ours; None when it asks for none of them.

    `*` is no wish for compression, which costs time: it leaves the answer as it is.
    """
    best, best_quality = None, 0.0
    for wish in (header or "").lower().split(","):
        encoding, _, parameters = wish.partition(";")
        quality = _quality(parameters)
        if encoding.strip() in ENCODINGS and quality > best_quality:
            best, best_quality = encoding.strip(), quality
    return best


def _quality(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def pays(pieces: Sequence[bytes | memoryview]) -> bool:
    """Whether packing makes less of them, judged by a sample from the largest when there is much.

    Many clients ask for compression without their users knowing, and tensors of floats are noise to it: packing a
    megabyte of them takes longer than most models, and saves a tenth.
    """
    largest = max(pieces, key=len)
    if len(largest) <= _SAMPLE_BYTES:
        return True
    middle = (len(largest) - _SAMPLE_BYTES) // 2
    return len(zlib.compress(largest[middle : middle + _SAMPLE_BYTES], _LEVEL)) < _WORTH * _SAMPLE_BYTES


def compressed(pieces: Iterable[bytes | memoryview], encoding: str) -> list[bytes]:
    """`pieces` one after the other as one stream."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, ENCODINGS[encoding])
    return [part for part in (*map(stream.compress, pieces), stream.flush()) if part]
