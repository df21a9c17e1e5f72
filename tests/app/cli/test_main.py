"""The command as a process of its own: what a user sees, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__

pytestmark = pytest.mark.e2e

CLOSED = "http://127.0.0.1:1"


def octet(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCTET_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=folder,
        env=kept | {"COLUMNS": "120", "NO_COLOR": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shown = octet("--help", folder=tmp_path)
    assert shown.returncode == 0
    for command in (
        "serve",
        "demo",
        "upload",
        "quantize",
        "jobs",
        "compare",
        "report",
        "infer",
        "download",
        "ab",
        "migrate",
    ):
        assert f" {command} " in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_told(tmp_path: Path) -> None:
    assert octet("--version", folder=tmp_path).stdout == f"octet {__version__}\n"


def test_a_client_loads_nothing_of_the_server() -> None:
    heavy = "{'onnx', 'onnxruntime', 'fastapi', 'starlette', 'sqlalchemy', 'celery', 'alembic', 'pyarrow', 'PIL'}"
    program = f"import sys, app.cli; print(sorted({heavy} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert loaded.stdout == "[]\n"


@pytest.mark.parametrize("by_environment", [False, True])
def test_an_unreachable_server_is_one_line_on_stderr(tmp_path: Path, by_environment: bool) -> None:
    if by_environment:
        done = octet("compare", "resnet", folder=tmp_path, OCTET_URL=CLOSED)
    else:
        done = octet("compare", "resnet", "--url", CLOSED, folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"octet: no answer from {CLOSED}")
    assert "octet serve" in line
    assert "--url" in line
