"""Inspects uploads in a child process, so that what they do to a parser stays out of the gateway."""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import app
from app import errors
from app.errors import InvalidDataset, InvalidModel, OctetError
from app.intake.archive import MAX_RATIO, Refusal
from app.intake.artifacts import CheckedDataset, CheckedModel, Limits

__all__ = ["CheckedDataset", "CheckedModel", "Limits", "inspect_dataset", "inspect_model"]

log = logging.getLogger(__name__)

MAX_PREPROCESS_BYTES = 1024**2
MAX_ANSWER_BYTES = 8 * 1024**2
#: Between the end of the answer and the end of the process, in which gigabytes may have to be freed.
_EXIT_SECONDS = 10
#: Address space of the child: libraries reserve more than they use, and a model lies in memory twice (parsed and
#: serialized) at up to 2 GiB, many small messages taking more than their bytes. All else is streamed.
_SPACE_BASE_BYTES = 4 * 1024**3
_SPACE_TIMES = 4
_SPACE_COUNTED_BYTES = 2 * 1024**3


def inspect_model(source: Path, filename: str, folder: Path, limits: Limits) -> CheckedModel:
    """Check the uploaded model at `source`, which the client called `filename`; its files lie in `folder`.

    `folder` is private to this call; the caller creates it, and removes it with all that a refusal left there.
    Blocks for up to `limits.seconds`. Raises `InvalidModel` for anything that is not a model that can be served,
    also when checking it crashes or takes too long; `TooLarge`, and `NoSpace`.
    """
    answer = _ask("model", source, filename, folder, limits, None, InvalidModel)
    return CheckedModel.from_json(answer, folder.absolute())


def inspect_dataset(
    source: Path, filename: str, folder: Path, limits: Limits, preprocess: str | None = None
) -> CheckedDataset:
    """Check the uploaded dataset at `source`, and leave its canonical form in `folder`; see `inspect_model`.

    `preprocess` is the JSON that came with it. Raises `InvalidDataset` with the field `file` or `preprocess`.
    """
    if preprocess is not None and len(preprocess.encode("utf-8", "replace")) > MAX_PREPROCESS_BYTES:
        raise InvalidDataset(f"preprocess is over {MAX_PREPROCESS_BYTES} bytes", field="preprocess")
    answer = _ask("dataset", source, filename, folder, limits, preprocess, InvalidDataset)
    return CheckedDataset.from_json(answer, folder.absolute())


def _ask(
    kind: str,
    source: Path,
    filename: str,
    folder: Path,
    limits: Limits,
    preprocess: str | None,
    refusal: Refusal,
) -> dict[str, Any]:
    request = {
        "kind": kind,
        "source": str(source.absolute()),
        "filename": filename,
        "folder": str(folder.absolute()),
        "preprocess": preprocess,
        "seconds": limits.seconds,
        "unpacked_bytes": limits.unpacked_bytes,
        "address_space_bytes": _address_space(source, filename),
    }
    answer = _run(request, folder.absolute(), limits.seconds, kind, refusal)
    if "error" in answer:
        raise _error(answer, refusal)
    if "defect" in answer:
        log.error("checking an uploaded %s failed:\n%s", kind, answer["defect"])
        raise refusal(f"the file cannot be read as a {kind}: it is damaged, or uses a feature that is not supported")
    checked: dict[str, Any] = answer["checked"]
    return checked


def _address_space(source: Path, filename: str) -> int:
    """Bytes of memory that the child may map: what a file of this size can rightly need, and no more."""
    size = source.stat().st_size
    reach = size if filename.lower().endswith(".onnx") else size * MAX_RATIO
    return _SPACE_BASE_BYTES + _SPACE_TIMES * min(reach, _SPACE_COUNTED_BYTES)


def _run(request: dict[str, Any], folder: Path, seconds: float, kind: str, refusal: Refusal) -> dict[str, Any]:
    """The child's answer; the refusal when it crashes, takes too long, or answers nonsense."""
    # A file, not a pipe, for the request: writing it can never wait for a child that does not read.
    with tempfile.TemporaryFile(dir=folder) as stdin:
        stdin.write(json.dumps(request).encode())
        stdin.seek(0)
        child = subprocess.Popen(
            # -P: `folder` holds files of strangers and is the working directory, so nothing is imported from it.
            [sys.executable, "-P", "-m", "app.intake.child"],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(folder),
            close_fds=True,
            start_new_session=True,
        )
    assert child.stdout is not None
    with child.stdout as stdout:
        try:
            content = _read_until(stdout, time.monotonic() + seconds)
            status = child.wait(timeout=_EXIT_SECONDS)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise refusal(f"the {kind} could not be checked within {seconds:g} seconds") from None
        finally:
            _end(child)
    if status != 0:
        log.warning("the process checking an uploaded %s ended with status %d", kind, status)
        raise refusal(f"the file cannot be read as a {kind}: reading it crashes, or takes too much memory")
    return _parsed(content, kind, refusal)


def _read_until(stdout: IO[bytes], deadline: float) -> bytes:
    """All of `stdout`, but no more than an answer may have; raises `TimeoutError` at `deadline`."""
    content = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while len(content) <= MAX_ANSWER_BYTES:
            if not selector.select(max(0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(stdout.fileno(), 65536)
            if not chunk:
                break
            content += chunk
    return content


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child with all it may have started, unless it has ended."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _parsed(content: bytes, kind: str, refusal: Refusal) -> dict[str, Any]:
    if len(content) > MAX_ANSWER_BYTES:
        raise refusal(f"the {kind} has too many, or too long, names to be served")
    try:
        answer: dict[str, Any] = json.loads(content)
    except ValueError:
        log.warning("the process checking an uploaded %s gave no readable answer", kind)
        raise refusal(f"the file cannot be read as a {kind}") from None
    return answer


def _error(answer: dict[str, Any], refusal: Refusal) -> OctetError:
    """The child's error, of the same class; its constructor is passed over, since the sentence is complete."""
    kind = getattr(errors, answer["error"], refusal)
    error: OctetError = kind.__new__(kind)
    OctetError.__init__(error, answer["detail"], field=answer["field"])
    return error


def _environment(folder: Path) -> dict[str, str]:
    """No secret, no setting: only what an interpreter needs to start and to find this package."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(Path(app.__file__).parents[1]),
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
