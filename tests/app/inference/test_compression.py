import gzip
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid, TooLarge, Unsupported
from app.inference import compression

pytestmark = pytest.mark.e2e

PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@given(st.binary(max_size=5000), st.sampled_from(["gzip", "deflate"]))
def test_what_others_pack_is_unpacked(content: bytes, encoding: str) -> None:
    packed = memoryview(PACK[encoding](content))
    assert bytes(compression.decompressed(packed, encoding, 5000)) == content


@given(st.lists(st.binary(max_size=2000), max_size=4), st.sampled_from(["gzip", "deflate"]))
def test_others_unpack_what_is_packed(pieces: list[bytes], encoding: str) -> None:
    packed = b"".join(compression.compressed(pieces, encoding))
    assert UNPACK[encoding](packed) == b"".join(pieces)


def test_a_body_larger_than_the_steps_comes_out_whole() -> None:
    content = bytes(range(256)) * 40_000
    for encoding in PACK:
        packed = memoryview(PACK[encoding](content))
        assert bytes(compression.decompressed(packed, encoding, len(content))) == content


def test_several_gzip_streams_are_one_body() -> None:
    packed = memoryview(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert bytes(compression.decompressed(packed, "gzip", 100)) == b"one two"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_before_it_takes_memory(encoding: str) -> None:
    bomb = memoryview(PACK[encoding](bytes(200 * 1024**2)))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="unpacks to more than"):
            compression.decompressed(bomb, encoding, 1024**2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024**2


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda packed: packed[:-3], "cut off"),
        (lambda packed: b"", "cut off"),
        (lambda packed: b"{}" + packed, "is not"),
        (lambda packed: packed + b"xx", "is not|unexpected data"),
    ],
)
def test_damage_is_refused(encoding: str, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Invalid, match=words):
        compression.decompressed(memoryview(damage(PACK[encoding](b"content"))), encoding, 100)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_arbitrary_bytes_are_unpacked_or_refused(content: bytes, encoding: str) -> None:
    try:
        compression.decompressed(memoryview(content), encoding, 1000)
    except (Invalid, TooLarge):
        return


def test_text_is_worth_packing_and_large_noise_is_not() -> None:
    noise = np.random.default_rng(0).normal(size=100_000).astype(np.float32).tobytes()
    assert compression.pays([b"{}", b"0.125," * 10_000])
    assert compression.pays([b"{}", noise[:1000]])
    assert not compression.pays([b"{}", memoryview(noise)])


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("*", None),
        ("br, zstd", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, GZIP;q=0.5, deflate;q=0.7", "deflate"),
        ("gzip;q=0", None),
        ("gzip, deflate", "gzip"),
        ("gzip;q=nonsense", None),
    ],
)
def test_the_encoding_that_is_asked_for_most(header: str | None, encoding: str | None) -> None:
    assert compression.accepted(header) == encoding


def test_bodies_come_plain_or_in_one_of_two_encodings() -> None:
    assert [compression.checked_encoding(name) for name in (None, "", "identity", "GZip", "deflate")] == [
        None,
        None,
        None,
        "gzip",
        "deflate",
    ]
    for name in ("br", "zstd", "gzip, gzip"):
        with pytest.raises(Unsupported, match="gzip and deflate are"):
            compression.checked_encoding(name)
