"""Safe reading of `.zip` and `.tar` uploads.

Names in an archive are looked at, never used: members are unpacked under numbers, so that no name, link or
device can reach outside the folder. Bytes are counted while they are unpacked, whatever the headers claim.
"""

import errno
import gzip
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from app.errors import InvalidDataset, InvalidModel, TooLarge
from app.intake.artifacts import Limits

MAX_MEMBERS = 10_000
MAX_NAME = 1024
#: An archive may unpack to so many times its size, once it is over `RATIO_FREE_BYTES`.
MAX_RATIO = 200
RATIO_FREE_BYTES = 64 * 1024**2
CHUNK_BYTES = 4 * 1024**2

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")

Refusal = type[InvalidModel] | type[InvalidDataset]

_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    ValueError,
    gzip.BadGzipFile,
    struct.error,
    IndexError,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


class Source(Protocol):
    """Anything bytes can be read from, front to back."""

    def read(self, size: int = ..., /) -> bytes: ...


class Allowance:
    """How many bytes an upload may still unpack to."""

    def __init__(self, packed_bytes: int, limits: Limits) -> None:
        self._packed_bytes = packed_bytes
        self._limit = limits.unpacked_bytes
        self._taken = 0

    def take(self, count: int) -> None:
        """Use `count` bytes; raises `TooLarge` once that is over the limit, or out of proportion."""
        self._taken += count
        if self._taken > self._limit:
            raise TooLarge(f"the upload unpacks to more than the {self._limit} bytes allowed here", field="file")
        if self._taken > RATIO_FREE_BYTES and self._taken > MAX_RATIO * self._packed_bytes:
            raise TooLarge(
                f"the upload unpacks to more than {MAX_RATIO} times its size, as a decompression bomb does;"
                " send it with less compression",
                field="file",
            )


class _Counted:
    """A member being read: every byte counted, and damage told in a sentence that names the member."""

    def __init__(self, source: IO[bytes], name: str, allowance: Allowance, refusal: Refusal) -> None:
        self._source = source
        self._name = name
        self._allowance = allowance
        self._refusal = refusal

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        with _refused_as(self._refusal, _damaged(self._name)):
            chunk = self._source.read(size)
        self._allowance.take(len(chunk))
        return chunk


class ZipUpload:
    """The members of a `.zip` (or `.npz`, which is one): checked names, and counted bytes.

    `names` are those of regular files, in the archive's order; folders are left out.
    """

    def __init__(self, archive: zipfile.ZipFile, allowance: Allowance, refusal: Refusal, names: list[str]):
        self.names = names
        self._archive = archive
        self._allowance = allowance
        self._refusal = refusal

    def size_of(self, name: str) -> int:
        """The unpacked size that the archive declares; no more than that can be read."""
        return self._archive.getinfo(name).file_size

    @contextmanager
    def open(self, name: str) -> Iterator[Source]:
        """The bytes of a member, each one counted. A broken member raises the refusal, naming it."""
        with _refused_as(self._refusal, _damaged(name)):
            member = self._archive.open(name)
        with member:
            yield _Counted(member, name, self._allowance, self._refusal)


@contextmanager
def open_zip(
    source: Path, limits: Limits, refusal: Refusal, *, max_members: int = MAX_MEMBERS, plain_names: bool = True
) -> Iterator[ZipUpload]:
    """Open a `.zip` whose members are regular files with distinct names, stored or deflated, not encrypted.

    With `plain_names` every name is also a plain relative path. Raises the refusal, or `TooLarge`.
    """
    with _refused_as(refusal, "the file is not a readable zip archive: it is truncated or damaged"):
        archive = zipfile.ZipFile(source)
    with archive:
        members = [info for info in archive.infolist() if not info.filename.endswith("/")]
        if len(members) > max_members:
            raise TooLarge(f"the archive holds more than {max_members} files", field="file")
        for info in members:
            _check_zip_member(info, refusal, plain_names)
        names = [info.filename for info in members]
        _check_distinct(names, refusal)
        yield ZipUpload(archive, Allowance(source.stat().st_size, limits), refusal, names)


def unpack(source: Path, filename: str, folder: Path, limits: Limits, refusal: Refusal) -> dict[str, Path]:
    """Unpack a `.zip` or `.tar` (by the ending of `filename`) into numbered files of `folder`.

    Returns each member's name with its file. Raises the refusal for links, devices, names that leave the
    archive, duplicates, encryption and damage; `TooLarge` for too many members or too many bytes.
    """
    members: dict[str, Path] = {}
    read = _tar_members if filename.lower().endswith(TAR_ENDINGS) else _zip_members
    for name, content in read(source, limits, refusal):
        if name in members:
            raise refusal(_twice(name))
        members[name] = _copied(content, folder / f"member-{len(members)}")
    return members


def check_plain(name: str, what: str, refusal: Refusal) -> None:
    """Raise the refusal unless `name` is a relative path that cannot leave where it starts."""
    if (
        not name
        or len(name) > MAX_NAME
        or _CONTROL.search(name)
        or "\\" in name
        or _DRIVE.match(name)
        or any(part in {"", ".", ".."} for part in name.removeprefix("./").split("/"))
    ):
        raise refusal(
            f"{what} {name[:80]!r} is not a plain relative path: no absolute path, '..', backslash, drive or"
            " control character is allowed"
        )


def _zip_members(source: Path, limits: Limits, refusal: Refusal) -> Iterator[tuple[str, Source]]:
    with open_zip(source, limits, refusal, max_members=MAX_MEMBERS) as upload:
        for name in upload.names:
            with upload.open(name) as content:
                yield name.removeprefix("./"), content


def _tar_members(source: Path, limits: Limits, refusal: Refusal) -> Iterator[tuple[str, Source]]:
    """Regular files of a tar, plain or gzipped, in its order; each is to be read before the next is asked for."""
    allowance = Allowance(source.stat().st_size, limits)
    with source.open("rb") as opened:
        gzipped = opened.read(2) == b"\x1f\x8b"
    damaged = "the file is not a readable tar archive: it is truncated or damaged"
    with _refused_as(refusal, damaged), tarfile.open(source, "r:gz" if gzipped else "r:") as archive:
        for count, info in enumerate(archive, start=1):
            if count > MAX_MEMBERS:
                raise TooLarge(f"the archive holds more than {MAX_MEMBERS} files", field="file")
            name = info.name.removeprefix("./")
            if info.isdir() and name in {"", "."}:
                continue
            check_plain(name, "the archive's member", refusal)
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise refusal(_not_a_file(name, "link" if info.issym() or info.islnk() else "special file"))
            content = archive.extractfile(info)
            assert content is not None
            yield name, _Counted(content, name, allowance, refusal)
        # On to the end of the file, where gzip keeps the checksum.
        assert archive.fileobj is not None
        while rest := archive.fileobj.read(CHUNK_BYTES):
            allowance.take(len(rest))


def _check_zip_member(info: zipfile.ZipInfo, refusal: Refusal, plain_names: bool) -> None:
    name = info.filename
    if plain_names:
        check_plain(info.orig_filename, "the archive's member", refusal)
    elif not name or len(name) > MAX_NAME or _CONTROL.search(info.orig_filename):
        raise refusal(f"the archive's member {info.orig_filename[:80]!r} has an unusable name")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise refusal(_not_a_file(name, "link" if kind == stat.S_IFLNK else "special file"))
    if info.flag_bits & 0x1:
        raise refusal(f"the archive's member {name[:80]!r} is encrypted; send it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refusal(f"the archive's member {name[:80]!r} is neither stored nor deflated; zip it anew")


def _not_a_file(name: str, kind: str) -> str:
    return f"the archive's member {name[:80]!r} is a {kind}; only regular files are accepted"


def _check_distinct(names: list[str], refusal: Refusal) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise refusal(_twice(name))
        seen.add(name)


def _twice(name: str) -> str:
    return f"the archive holds two members called {name[:80]!r}"


def _damaged(name: str) -> str:
    return f"the archive's member {name[:80]!r} is truncated or damaged"


def _copied(content: Source, target: Path) -> Path:
    with target.open("xb") as out:
        while chunk := content.read(CHUNK_BYTES):
            out.write(chunk)
    return target


@contextmanager
def _refused_as(refusal: Refusal, sentence: str) -> Iterator[None]:
    """What the libraries raise for a broken archive becomes `sentence`; errors of ours pass through."""
    try:
        yield
    except _BROKEN as error:
        raise refusal(sentence) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a member that starts before the file does
            raise
        raise refusal(sentence) from error
