"""Who may import whom: the contracts are in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]


# `make lint`, which runs before the tests, does the same.
@pytest.mark.slow
def test_the_layers_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def loaded(code: str, names: list[str], home: Path) -> list[str]:
    """Those of `names` that Python has imported once it has run `code`."""
    command = [sys.executable, "-c", f"{code}; import sys; print(*(name for name in {names!r} if name in sys.modules))"]
    environment = os.environ | {"OCTET_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import app.cli", "celery fastapi httpx numpy onnx onnxruntime pydantic_settings sqlalchemy uvicorn"),
        ("import app.main", "PIL alembic celery grpc onnx onnxruntime.quantization pyarrow scipy sympy torch worker"),
        ("import worker.tasks", "alembic fastapi jinja2 onnx onnxruntime scipy starlette torch uvicorn"),
        # PIL, scipy, torch and ONNX Runtime's quantizer are for some methods.
        (
            "import worker.job_process",
            "PIL app.registry app.settings celery fastapi grpc onnxruntime.quantization pydantic_settings scipy"
            " sqlalchemy torch",
        ),
    ],
    ids=["command line", "gateway", "worker", "job"],
)
def test_a_process_starts_without_the_libraries_of_others(code: str, heavy: str, tmp_path: Path) -> None:
    assert loaded(code, heavy.split(), tmp_path) == []


def test_experiments_are_counted_without_the_statistics(tmp_path: Path) -> None:
    rooms = ["assignment", "evidence", "guardrails", "moments", "pairs", "sketch", "units"]
    assert loaded(f"import {', '.join(f'app.experiments.{room}' for room in rooms)}", ["scipy"], tmp_path) == []
