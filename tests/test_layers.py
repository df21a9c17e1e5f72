"""Who may import whom: the contracts are in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_layers_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_gateway_starts_without_the_heavy_libraries() -> None:
    heavy = ["grpc", "torch", "scipy", "onnx", "onnxruntime.quantization", "pyarrow", "PIL", "sympy", "worker"]
    code = f"import sys, app.main; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_experiments_are_counted_without_the_statistics() -> None:
    rooms = ["assignment", "evidence", "guardrails", "moments", "pairs", "sketch", "units"]
    imports = ", ".join(f"app.experiments.{room}" for room in rooms)
    code = f"import sys, {imports}; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_command_line_starts_without_the_gateway() -> None:
    heavy = ["fastapi", "sqlalchemy", "onnxruntime", "celery", "onnx", "uvicorn"]
    code = f"import sys, app.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_job_process_starts_without_registry_and_settings() -> None:
    heavy = ["app.registry", "app.settings", "sqlalchemy", "pydantic_settings", "celery", "fastapi", "grpc"]
    heavy += ["torch", "scipy", "PIL", "onnxruntime.quantization"]  # only some methods need these
    code = f"import sys, worker.job_process; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
