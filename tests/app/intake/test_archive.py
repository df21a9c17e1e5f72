import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from app.errors import InvalidDataset, InvalidModel, OctetError, TooLarge
from app.intake import archive
from app.intake.archive import unpack
from app.intake.artifacts import Limits
from tests.app.intake.archives import tar_of, tar_with, zip_of, zip_with_link
from tests.app.intake.conftest import Room

FILES = {"a.onnx": b"first", "weights/b.bin": b"second" * 1000}


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("m.zip", zip_of(FILES)),
        ("M.ZIP", zip_of(FILES, compression=zipfile.ZIP_DEFLATED)),
        ("m.tar", tar_of(FILES)),
        ("m.tar.gz", tar_of(FILES, zipped=True)),
        ("m.tgz", tar_of(FILES, zipped=True)),
        ("m.tar", tar_of({f"./{name}": content for name, content in FILES.items()})),
        ("m.zip", zip_of({"weights/": b"", **FILES})),
    ],
)
def test_members_come_out_as_they_went_in(room: Room, filename: str, content: bytes) -> None:
    members = unpack(room.upload(content), filename, room.folder, room.limits, InvalidModel)
    assert {name: path.read_bytes() for name, path in members.items()} == FILES
    assert all(path.parent == room.folder for path in members.values())


def _damaged_zip() -> bytes:
    content = bytearray(zip_of({"a.onnx": b"A" * 1000}))
    content[200] ^= 0xFF
    return bytes(content)


def _damaged_gzip() -> bytes:
    """One bit of stored content is another: only the checksum at the end of the stream tells."""
    content = bytearray(gzip.compress(tar_of({"a.onnx": b"A" * 1000}), compresslevel=0, mtime=0))
    content[600] ^= 1
    return bytes(content)


def _renamed_in_central_directory(name: bytes = b"../b") -> bytes:
    """A member that bears another name where the archive lists it."""
    content = bytearray(zip_of({"aaaa": b"x"}))
    at = content.rindex(b"aaaa")
    content[at : at + 4] = name
    content[at - 18 : at - 16] = len(name).to_bytes(2, "little")
    content[-10:-6] = (46 + len(name)).to_bytes(4, "little")
    return bytes(content)


def _encrypted_zip() -> bytes:
    content = bytearray(zip_of({"a.onnx": b"A"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


def _zip_with_twins() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.onnx", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.onnx", b"two")
    return made.getvalue()


def _tar_with_twins() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for content in (b"one", b"two"):
            info = tarfile.TarInfo("a.onnx")
            info.size = 3
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _link_then_write() -> bytes:
    """A link to a place outside, then a file that would be written through it."""
    made = io.BytesIO(tar_with({}, tarfile.SYMTYPE, "out", "../target"))
    with tarfile.open(fileobj=made, mode="a") as archive:
        info = tarfile.TarInfo("out/a.onnx")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    return made.getvalue()


HOSTILE: list[tuple[str, bytes, str]] = [
    ("m.zip", zip_of({"../target": b"x"}), "plain relative path"),
    ("m.zip", zip_of({"a/../../target": b"x"}), "plain relative path"),
    ("m.zip", zip_of({"/tmp/target": b"x"}), "plain relative path"),
    ("m.zip", zip_of({"..\\target": b"x"}), "plain relative path"),
    ("m.zip", zip_of({"C:target": b"x"}), "plain relative path"),
    ("m.zip", zip_of({"a//b": b"x"}), "plain relative path"),
    ("m.zip", zip_of({"a\nb": b"x"}), "plain relative path"),
    ("m.zip", zip_of({"n" * 2000: b"x"}), "plain relative path"),
    ("m.zip", _renamed_in_central_directory(), "plain relative path"),
    ("m.zip", zip_with_link(FILES, "w.bin", "../target"), "link"),
    ("m.zip", zip_with_link(FILES, "w.bin", "", stat.S_IFIFO), "special file"),
    ("m.zip", _encrypted_zip(), "encrypted"),
    ("m.zip", zip_of({"a": b"x"}, compression=zipfile.ZIP_LZMA), "deflated"),
    ("m.zip", _zip_with_twins(), "two members"),
    ("m.zip", zip_of(FILES)[:-30], "truncated or damaged"),
    ("m.zip", zip_of(FILES)[40:], "truncated or damaged"),
    ("m.zip", _damaged_zip(), "truncated or damaged"),
    ("m.zip", b"PK\x03\x04 nothing", "truncated or damaged"),
    ("m.zip", tar_of(FILES), "zip"),
    ("m.tar", tar_of({"../target": b"x"}), "plain relative path"),
    ("m.tar", tar_of({"/tmp/target": b"x"}), "plain relative path"),
    ("m.tar", tar_of({"a/./b": b"x"}), "plain relative path"),
    ("m.tar", tar_with(FILES, tarfile.SYMTYPE, "w.bin", "../target"), "link"),
    ("m.tar", tar_with(FILES, tarfile.LNKTYPE, "w.bin", "../target"), "link"),
    ("m.tar", tar_with(FILES, tarfile.CHRTYPE, "w.bin", ""), "special file"),
    ("m.tar", tar_with(FILES, tarfile.FIFOTYPE, "w.bin", ""), "special file"),
    ("m.tar", _link_then_write(), "link"),
    ("m.tar", _tar_with_twins(), "two members"),
    ("m.tar", tar_of(FILES)[:3000], "truncated or damaged"),
    ("m.tar", zip_of(FILES), "truncated or damaged"),
    ("m.tar.gz", _damaged_gzip(), "truncated or damaged"),
    ("m.tar.gz", tar_of(FILES, zipped=True)[:-4], "truncated or damaged"),
    ("m.zip", _renamed_in_central_directory(b""), "plain relative path|damaged"),
    ("m.tar.gz", tar_of(FILES, zipped=True)[:100], "truncated or damaged"),
]


@pytest.mark.parametrize(("filename", "content", "words"), HOSTILE)
def test_a_hostile_archive_is_refused_and_reaches_nothing(
    room: Room, filename: str, content: bytes, words: str
) -> None:
    for refusal in (InvalidModel, InvalidDataset):
        with pytest.raises(refusal, match=words) as refused:
            unpack(room.upload(content), filename, room.folder, room.limits, refusal)
        assert refused.value.field == "file"
        assert str(room.path) not in refused.value.detail
        room.clear()


def _bomb(filename: str) -> bytes:
    zeros = {"a.onnx": bytes(80 * 1024**2)}
    return zip_of(zeros, compression=zipfile.ZIP_DEFLATED) if filename == "m.zip" else tar_of(zeros, zipped=True)


@pytest.mark.parametrize("filename", ["m.zip", "m.tar.gz"])
def test_a_bomb_is_stopped_while_it_unpacks(room: Room, filename: str) -> None:
    content = _bomb(filename)
    with pytest.raises(TooLarge, match="bomb"):
        unpack(room.upload(content), filename, room.folder, room.limits, InvalidModel)
    assert _unpacked(room) <= archive.RATIO_FREE_BYTES + archive.CHUNK_BYTES
    room.clear()
    with pytest.raises(TooLarge, match="1000000 bytes"):
        unpack(room.upload(content), filename, room.folder, Limits(60, 1_000_000), InvalidModel)
    assert _unpacked(room) <= archive.CHUNK_BYTES


def test_a_zip_that_understates_its_sizes_unpacks_to_no_more(room: Room) -> None:
    content = bytearray(zip_of({"a.onnx": bytes(1000)}, compression=zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + offset
        content[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(InvalidModel, match="damaged"):
        unpack(room.upload(bytes(content)), "m.zip", room.folder, room.limits, InvalidModel)
    assert _unpacked(room) <= 10


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_too_many_members_are_refused(room: Room, pack: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    content = pack({f"{number}.bin": b"" for number in range(6)})
    with pytest.raises(OctetError, match="more than 5 files"):
        unpack(room.upload(content), "m.zip" if pack is zip_of else "m.tar", room.folder, room.limits, InvalidModel)


def _unpacked(room: Room) -> int:
    return sum(Path(path).stat().st_size for path in room.folder.iterdir())
