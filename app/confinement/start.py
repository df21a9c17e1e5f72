"""Starting a confined process: an interpreter that confines itself before it imports anything but this package."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from app.confinement.grant import Grant

#: The folder that holds this package.
_CODE = Path(__file__).parents[2]


def start(
    module: str,
    arguments: Sequence[str],
    grant: Grant,
    *,
    stdin: int | IO[bytes],
    stderr: int | IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Run `python -m MODULE ARGUMENTS` in `grant.folder`, within `grant`; standard output is a pipe.

    It inherits no other descriptor and nothing of the environment, and leads a process group of its own.
    """
    assert grant.folder is not None
    return subprocess.Popen(
        # -P: the folder holds files of strangers and is the working directory, so nothing is imported from it.
        [sys.executable, "-P", "-m", "app.confinement.enter", grant.to_json(), module, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=grant.folder,
        env=clean_environment(grant.folder) | dict(environment or {}),
        close_fds=True,
        start_new_session=True,
    )


def clean_environment(folder: Path) -> dict[str, str]:
    """No secret, no setting: only what an interpreter needs to start and to find this package."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(_CODE),
        "PYTHONNOUSERSITE": "1",
        # Where modules were installed cannot be written to.
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
