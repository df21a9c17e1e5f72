import time

import pytest

from app.errors import Invalid
from app.inference.json_text import MAX_DEPTH, json_object


def nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    """An object that holds `opening` … `closing` so deep that its innermost level is number `depth`."""
    return b'{"x":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"y":', b"}")])
def test_depth_is_bounded(opening: bytes, closing: bytes) -> None:
    json_object(nested(MAX_DEPTH, opening, closing))
    for depth in (MAX_DEPTH + 1, 1000, 100_000):
        with pytest.raises(Invalid, match=r"nested deeper|depth limit"):
            json_object(nested(depth, opening, closing))


@pytest.mark.e2e
def test_a_million_keys_are_refused_quickly() -> None:
    flat = b"{" + b",".join(b'"k%d":0' % number for number in range(1_000_000)) + b"}"
    spread = b'{"inputs":[' + b",".join([b'{"a":1,"b":2}'] * 500_000) + b"]}"
    for bomb in (flat, spread):
        started = time.thread_time()
        with pytest.raises(Invalid, match="keys"):
            json_object(bomb)
        assert time.thread_time() - started < 3


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"null", b'"text"', b"{", b'{"a":NaN}', b'{"a":"\xff"}', b"{}{}"])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid, match="JSON"):
        json_object(memoryview(raw))
