"""An engine whose models live in processes of their own."""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import engines
from app.confinement import Grant
from app.engines import TensorSpec
from app.engines.engine import NUMPY_TYPES, Array
from app.errors import Crashed, Invalid, InvalidModel, TooMuchMemory
from app.isolation.channel import Arena, Closed, Garbled, limit_time, receive, room_for, send
from app.isolation.nursery import Nursery

_log = logging.getLogger(__name__)

#: Loading is bounded by what it reads; this is for engines that hang.
_LOAD_SECONDS = 900
#: Libraries, stacks of threads, and what an allocator reserves without using it.
_SPACE_BASE_BYTES = 4 * 1024**3
_DETAIL_CHARACTERS = 2000


@dataclass(frozen=True)
class Limits:
    """Of one runner: `memory_bytes` of address space; a run that takes longer than `run_seconds` ends its process."""

    memory_bytes: int
    run_seconds: float


class IsolatedEngine:
    """Loads what the engine `name` loads, each model in a runner: a confined process, ended by `RunnerModel.close`."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self._limits = limits
        # Now, since the process inherits the priority of the thread that starts it.
        self._nursery = Nursery(name)

    def load(self, path: Path, *, intra_op_threads: int, arena: bool = True, saved: bool = False) -> "RunnerModel":
        """As any engine's. All that lies in the folder of `path` can be read by the model's process.

        Raises `InvalidModel`, or `Crashed` when the process ends over it.
        """
        options = {"intra_op_threads": intra_op_threads, "arena": arena, "saved": saved}
        grant = Grant(None, (path.parent,), memory_bytes=self._limits.memory_bytes + _SPACE_BASE_BYTES)
        control, process = self._spawned(path, grant, options=options, save=None)
        try:
            described = self._first_answer(control, process)
            inputs, outputs = _specs(described["inputs"]), _specs(described["outputs"])
        except (KeyError, TypeError, ValueError) as error:
            control.close()
            self._nursery.bury(process)
            raise Crashed("it answered nonsense") from error
        except BaseException:
            control.close()
            self._nursery.bury(process)
            raise
        return RunnerModel(inputs, outputs, control, process, self._nursery.bury, self._limits.run_seconds)

    def save(self, path: Path, folder: Path) -> str:
        """As any engine's, by a process that writes to `folder` alone."""
        memory = self._limits.memory_bytes + _SPACE_BASE_BYTES
        grant = Grant(folder, (path.parent,), memory_bytes=memory, file_bytes=self._limits.memory_bytes)
        control, process = self._spawned(path, grant, options={}, save=str(folder))
        try:
            name = self._first_answer(control, process).get("saved")
        finally:
            control.close()
            self._nursery.bury(process)
        if not isinstance(name, str) or Path(name).name != name:
            raise Crashed("it answered nonsense")
        return name

    def build(self) -> str:
        return engines.get(self.name).build()

    def processes(self) -> list[int]:
        """Those that belong to no model."""
        return self._nursery.processes()

    def close(self) -> None:
        """End all processes."""
        self._nursery.close()

    def _spawned(
        self, path: Path, grant: Grant, *, options: dict[str, Any], save: str | None
    ) -> tuple[socket.socket, int]:
        ours, its = socket.socketpair()
        request = {"engine": self.name, "path": str(path), "options": options, "save": save, "grant": grant.to_json()}
        with its:
            try:
                return ours, self._nursery.spawn(request, its)
            except BaseException:
                ours.close()
                raise

    def _first_answer(self, control: socket.socket, process: int) -> dict[str, Any]:
        limit_time(control, _LOAD_SECONDS)
        try:
            answer = receive(control)
        except Closed:
            raise Crashed(_cause(self._nursery.bury(process))) from None
        except TimeoutError:
            raise Crashed(f"it took longer than {_LOAD_SECONDS} s to load") from None
        except Garbled as error:
            raise Crashed("it answered nonsense") from error
        if not isinstance(answer, dict):
            raise Crashed("it answered nonsense")
        if "error" in answer:
            raise InvalidModel(str(answer["error"])[:_DETAIL_CHARACTERS])
        return answer


@dataclass(frozen=True)
class _Channel:
    end: socket.socket
    arena: Arena

    def close(self) -> None:
        self.end.close()
        self.arena.close()


class RunnerModel:
    """A model in another process. `run` may be called from several threads, which have a channel each."""

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        control: socket.socket,
        process: int,
        bury: Callable[[int], int | None],
        run_seconds: float,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.process = process
        #: Whether the process was found to be gone; it does not come back.
        self.is_dead = False
        self._datatypes = {spec.name: spec.datatype for spec in outputs}
        self._control = control
        self._bury = bury
        self._run_seconds = run_seconds
        self._lock = threading.Lock()
        self._free: list[_Channel] = []
        self._how = ""

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """As any model's. Raises `Crashed` when the process ends, or takes too long, or had ended before."""
        arrays = list(feeds.values())
        try:
            channel = self._channel()
            channel.arena.make_room(room_for(arrays))
            send(channel.end, {"names": list(feeds), "feeds": channel.arena.put(arrays), "outputs": outputs})
        except (Closed, OSError):
            # It had ended before it heard of this.
            raise self._ended(before=True) from None
        try:
            results = self._answer(channel, list(outputs) if outputs is not None else list(self._datatypes))
        except Closed:
            raise self._ended() from None
        except TimeoutError:
            raise self._ended(f"it took longer than {self._run_seconds:g} s for one run, and was ended") from None
        except Garbled as error:
            raise self._ended(f"it answered nonsense: {error}") from error
        except Invalid:
            self._free.append(channel)
            raise
        self._free.append(channel)
        return results

    def resident_bytes(self) -> int:
        """What the process takes of memory, each shared page counted in part; 0 when it is gone."""
        return proportional_bytes(self.process)

    def close(self) -> None:
        """End the process; nobody may run it any more."""
        self.is_dead = True
        with self._lock:
            self._control.close()
            for channel in self._free:
                channel.close()
            self._free.clear()
        self._bury(self.process)

    def _channel(self) -> _Channel:
        with suppress(IndexError):
            return self._free.pop()
        with self._lock:
            if self.is_dead:
                raise Closed
            ours, its = socket.socketpair()
            with its:
                arena = Arena.create()
                socket.send_fds(self._control, [b"c"], [its.fileno(), arena.descriptor])
        limit_time(ours, self._run_seconds)
        return _Channel(ours, arena)

    def _answer(self, channel: _Channel, names: Sequence[str]) -> list[Array]:
        answer = receive(channel.end)
        if isinstance(answer, dict) and isinstance(wanted := answer.get("grow"), int):
            try:
                channel.arena.make_room(wanted)
            except (OSError, ValueError, OverflowError):
                raise Garbled("it wants more shared memory than there is") from None
            send(channel.end, {})
            answer = receive(channel.end)
        if not isinstance(answer, dict):
            raise Garbled("no object")
        if "outputs" in answer:
            return self._checked(channel.arena.copies(answer["outputs"]), names)
        if "refused" in answer:
            raise Invalid(str(answer["refused"])[:_DETAIL_CHARACTERS])
        if "memory" in answer:
            raise TooMuchMemory(str(answer["memory"])[:_DETAIL_CHARACTERS])
        raise RuntimeError(f"the model's process failed: {str(answer.get('defect'))[:_DETAIL_CHARACTERS]}")

    def _checked(self, arrays: list[Array], names: Sequence[str]) -> list[Array]:
        if len(arrays) != len(names):
            raise Garbled(f"{len(arrays)} outputs instead of {len(names)}")
        for array, name in zip(arrays, names, strict=True):
            if array.dtype != NUMPY_TYPES[self._datatypes[name]]:
                raise Garbled(f"output '{name[:80]}' of another type than it has")
        return arrays

    def _ended(self, how: str | None = None, *, before: bool = False) -> Crashed:
        """The error of who finds the process gone, or beyond use; ends it."""
        with self._lock:
            if not self.is_dead:
                self.is_dead = True
                status = self._bury(self.process)
                self._how = how or _cause(status)
                _log.error("the process %d of a model ended: %s", self.process, self._how)
        return Crashed(self._how, before=before)


def proportional_bytes(process: int) -> int:
    """The memory of a process, pages that it shares counted in part: sums over processes are true."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _cause(status: int | None) -> str:
    if status is None or status >= 0:
        return "it ended without a reason"
    if status == -signal.SIGKILL:
        return "it was killed, most likely for want of memory"
    return f"it crashed with {signal.Signals(-status).name}"


def _specs(described: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    specs = tuple(map(TensorSpec.from_json, described))
    for spec in specs:
        if not isinstance(spec.name, str) or spec.datatype not in NUMPY_TYPES or not _is_shape(spec.shape):
            raise ValueError("an input or output that is none")
    return specs


def _is_shape(shape: Sequence[Any]) -> bool:
    return len(shape) <= 64 and all(type(axis) is int and -1 <= axis < 1 << 48 for axis in shape)
