"""Inspects uploads in a child process, so that what they do to a parser stays out of the gateway."""

import json
import logging
import math
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict

from app import errors
from app.confinement import Grant, start
from app.digest import sha256_of
from app.engines.cpu import usable_cores
from app.errors import InvalidDataset, InvalidModel, OctetError
from app.intake.archive import MAX_RATIO, Refusal
from app.intake.artifacts import CheckedDataset, CheckedModel, Limits
from app.intake.dataset_formats import find

__all__ = ["CheckedDataset", "CheckedModel", "Limits", "inspect_dataset", "inspect_model"]

log = logging.getLogger(__name__)

MAX_PREPROCESS_CHARACTERS = 1024**2
MAX_ANSWER_BYTES = 8 * 1024**2
#: Between the end of the answer and the end of the process, in which gigabytes may have to be freed.
_EXIT_SECONDS = 10
#: Address space of the child: libraries reserve more than they use, and a model lies in memory twice (parsed and
#: serialized) at up to 2 GiB, many small messages taking more than their bytes. All else is streamed.
_SPACE_BASE_BYTES = 4 * 1024**3
_SPACE_TIMES = 4
_SPACE_COUNTED_BYTES = 2 * 1024**3


_LARGEST_ONNX_BYTES = 2 * 1024**3
#: The upload's name in the child's folder; what the child makes has others.
_UPLOAD = "upload"


def inspect_model(source: Path, filename: str, folder: Path, limits: Limits, *, engine: str) -> CheckedModel:
    """Check the uploaded model at `source`, which the client called `filename`; its files lie in `folder`.

    `engine` names the engine that has to load the model. `folder` is private to this call; the caller creates it, and
    removes it with all that a refusal left there. Blocks for up to `limits.seconds`. Raises `InvalidModel` for anything
    that is not a model that can be served, also when checking it crashes or takes too long; `TooLarge`, and `NoSpace`.
    """
    child = _Child("model", InvalidModel, folder.absolute(), limits)
    answer = child.ask(source, filename, engine=engine)
    with child.refused_if_nonsense():
        checked = CheckedModel.from_json(answer, folder.absolute())
        _check_digest(checked.path, checked.file_digest)
        if checked.data_path is not None:
            _check_digest(checked.data_path, checked.data_digest)
        return checked


def inspect_dataset(
    source: Path, filename: str, folder: Path, limits: Limits, preprocess: str | None = None
) -> CheckedDataset:
    """Check the uploaded dataset at `source`, and leave its canonical form in `folder`; see `inspect_model`.

    `preprocess` is the JSON that came with it. Raises `InvalidDataset` with the field `file` or `preprocess`.
    """
    kind = find(source, filename)
    if preprocess is not None and len(preprocess) > MAX_PREPROCESS_CHARACTERS:
        raise InvalidDataset(f"preprocess has over {MAX_PREPROCESS_CHARACTERS} characters", field="preprocess")
    child = _Child("dataset", InvalidDataset, folder.absolute(), limits)
    answer = child.ask(source, filename, format=asdict(kind), preprocess=preprocess)
    with child.refused_if_nonsense():
        checked = CheckedDataset.from_json(answer, folder.absolute())
        _check_digest(checked.path, checked.digest)
        return checked


class _Answer(BaseModel):
    """What a child may say: what it found, the error for the client, or what went wrong with itself."""

    model_config = ConfigDict(strict=True, extra="forbid")

    checked: dict[str, Any] | None = None
    error: str | None = None
    detail: str = ""
    field: str | None = None
    defect: str | None = None


@dataclass(frozen=True)
class _Child:
    """One inspection of a `kind` of upload, in a process of its own; whatever goes wrong there is a `refusal`."""

    kind: str
    refusal: Refusal
    folder: Path
    limits: Limits

    def ask(self, source: Path, filename: str, **particulars: Any) -> dict[str, Any]:
        """What the child found; raises the error it answers with, or the refusal when it gives no good answer.

        `particulars` are what the child needs for this kind of upload, as JSON.
        """
        with _within_reach(source, self.folder) as reachable:
            request = {
                "kind": self.kind,
                "source": str(reachable),
                "filename": filename,
                "folder": str(self.folder),
                "seconds": self.limits.seconds,
                "unpacked_bytes": self.limits.unpacked_bytes,
                **particulars,
            }
            grant = Grant(
                self.folder,
                readable=(reachable,),
                memory_bytes=_address_space(source, filename),
                cpu_seconds=math.ceil(self.limits.seconds * usable_cores()) + _EXIT_SECONDS,
                # Of a model's weights, some may have been in the .onnx, and all may end up in one file.
                file_bytes=self.limits.unpacked_bytes + _LARGEST_ONNX_BYTES,
            )
            content = self._run(request, grant)
        with self.refused_if_nonsense():
            answer = _Answer.model_validate_json(content)
            error = _error(answer)
        if error is not None:
            raise error
        if answer.checked is None:
            log.error("checking an uploaded %s failed:\n%s", self.kind, answer.defect)
            raise self._unreadable("it is damaged, or uses a feature that is not supported")
        return answer.checked

    @contextmanager
    def refused_if_nonsense(self) -> Iterator[None]:
        """Errors of decoding an answer become the refusal: hostile bytes may have taken the child over."""
        try:
            yield
        except (ValueError, TypeError, KeyError) as error:
            log.warning("the process checking an uploaded %s gave no valid answer: %s", self.kind, error)
            raise self._unreadable("it is damaged") from error

    def _run(self, request: dict[str, Any], grant: Grant) -> bytes:
        """Start the child, and wait for all that it answers and for its end."""
        child = _started(request, grant)
        assert child.stdout is not None
        with child.stdout as stdout:
            try:
                content = _read_until(stdout, time.monotonic() + self.limits.seconds)
                if len(content) > MAX_ANSWER_BYTES:
                    raise self.refusal(f"the {self.kind} has too many, or too long, names to be served")
                status = child.wait(timeout=_EXIT_SECONDS)
            except (TimeoutError, subprocess.TimeoutExpired):
                raise self.refusal(
                    f"the {self.kind} could not be checked within {self.limits.seconds:g} seconds"
                ) from None
            finally:
                _end(child)
        if status != 0:
            log.warning("the process checking an uploaded %s ended with status %d", self.kind, status)
            raise self._unreadable("reading or running it crashes, or takes too much memory")
        return content

    def _unreadable(self, reason: str) -> OctetError:
        return self.refusal(f"the file cannot be read as a {self.kind}: {reason}")


def _address_space(source: Path, filename: str) -> int:
    """Bytes of memory that the child may map: what a file of this size can rightly need, and no more."""
    size = source.stat().st_size
    reach = size if filename.lower().endswith(".onnx") else size * MAX_RATIO
    return _SPACE_BASE_BYTES + _SPACE_TIMES * min(reach, _SPACE_COUNTED_BYTES)


@contextmanager
def _within_reach(source: Path, folder: Path) -> Iterator[Path]:
    """A name of `source` in `folder`, where the child may link it; itself, where file systems cannot link."""
    reachable = folder / _UPLOAD
    try:
        os.link(source, reachable)
    except OSError:
        yield source.absolute()
        return
    try:
        yield reachable
    finally:
        reachable.unlink(missing_ok=True)


def _check_digest(path: Path, claimed: str | None) -> None:
    """What is kept under a digest must have it, and not only say so; raises `ValueError`."""
    if sha256_of(path) != claimed:
        raise ValueError(f"{path.name} does not have the digest that it is said to have")


def _started(request: dict[str, Any], grant: Grant) -> "subprocess.Popen[bytes]":
    # A file, not a pipe, for the request: writing it can never wait for a child that does not read.
    with tempfile.TemporaryFile(dir=grant.folder) as stdin:
        stdin.write(json.dumps(request).encode())
        stdin.seek(0)
        return start(
            "app.intake.child",
            [],
            grant,
            stdin=stdin,
            stderr=subprocess.DEVNULL,
            environment={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )


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


def _error(answer: _Answer) -> OctetError | None:
    """The child's error, of the same class; its constructor is passed over, since the sentence is complete."""
    if answer.error is None:
        return None
    kind = getattr(errors, answer.error, None)
    if not (isinstance(kind, type) and issubclass(kind, OctetError)):
        raise ValueError(f"{answer.error!r} is not an error of ours")
    error = kind.__new__(kind)
    OctetError.__init__(error, answer.detail, field=answer.field)
    return error
