"""Blobs as files whose names the caller chooses."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.blobs.store import BlobStore
from app.errors import MissingBlob, NoSpace, is_full


@contextmanager
def linked(blobs: BlobStore, files: Mapping[Path, str]) -> Iterator[None]:
    """Place blobs at the paths `files` (path -> digest); their content is valid until the block ends.

    A blob is hard-linked where the file systems allow it, and copied otherwise. The files are to be read only. The
    caller removes them.

    Raises:
        MissingBlob: The store has no such blob.
        NoSpace: The store copies blobs to this machine, and the disk is full.
    """
    with ExitStack() as leases:
        for target, digest in files.items():
            _link(leases.enter_context(blobs.materialize(digest)), target, digest)
        yield


def _link(source: Path, target: Path, digest: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        # A local store leases its own file, which another process may have deleted since.
        raise MissingBlob(digest) from error
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK}:
            raise
        _copy(source, target, digest)


def _copy(source: Path, target: Path, digest: str) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise MissingBlob(digest) from error
    except OSError as error:
        if is_full(error):
            raise NoSpace("the disk that blobs are copied to is full") from error
        raise
