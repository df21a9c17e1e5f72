"""Archives, honest and hostile, made by code."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping


def zip_of(files: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return made.getvalue()


def zip_with_link(files: Mapping[str, bytes], name: str, target: str, kind: int = stat.S_IFLNK) -> bytes:
    """A zip in which `name` is a link (or whatever `kind` says) to `target`."""
    made = io.BytesIO(zip_of(files))
    with zipfile.ZipFile(made, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, target)
    return made.getvalue()


def tar_of(files: Mapping[str, bytes], *, zipped: bool = False) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            add(archive, name, content)
    # Without a time the same files give the same bytes, and so the same test names in every process.
    return gzip.compress(made.getvalue(), mtime=0) if zipped else made.getvalue()


def tar_with(files: Mapping[str, bytes], kind: bytes, name: str, target: str) -> bytes:
    """A tar that starts with a member of another `kind`: a link to `target`, a device, a pipe."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = target
        archive.addfile(info)
        for each, content in files.items():
            add(archive, each, content)
    return made.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
