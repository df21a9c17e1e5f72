"""The process that one model lives in: forked from the nursery, confined, and taken at its word by nobody."""

import ctypes
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from app import engines
from app.confinement import Grant, confine
from app.confinement.kernel import PR_SET_PDEATHSIG, prctl
from app.engines import Engine, LoadedModel
from app.engines.engine import Array
from app.errors import Invalid, OctetError, TooMuchMemory
from app.isolation.channel import Arena, Closed, receive, room_for, send


def main(request: dict[str, Any], descriptor: int, parent: int) -> NoReturn:
    """Do as `request` says: load a model and run it for whoever opens a channel, or save one."""
    code = 1
    try:
        _settle(parent)
        confine(Grant.from_json(request["grant"]))
        control = socket.socket(fileno=descriptor)
        _do(request, control)
        code = 0
    finally:
        # Nothing of the nursery's is to be cleaned up here.
        os._exit(code)


def _settle(parent: int) -> None:
    with suppress(OSError):
        prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
    # When memory runs out, it is this process that goes.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.close(nothing)


def _do(request: dict[str, Any], control: socket.socket) -> None:
    path = Path(request["path"])
    try:
        engine = engines.get(request["engine"])
        if request["save"] is not None:
            send(control, {"saved": engine.save(path, Path(request["save"]))})
            return
        model = _loaded_leisurely(engine, path, request["options"])
    except OctetError as error:
        send(control, {"error": error.detail})
        return
    except MemoryError:
        send(control, {"error": "loading the model takes more memory than its process may have"})
        return
    described = {name: [spec.as_json() for spec in getattr(model, name)] for name in ("inputs", "outputs")}
    send(control, described)
    _serve(model, control)


def _loaded_leisurely(engine: Engine, path: Path, options: dict[str, Any]) -> LoadedModel:
    """Load in a thread that others go before; the threads that run the model later are not born of it."""
    loaded: list[LoadedModel | BaseException] = []

    def load() -> None:
        # Threads that the engine starts would be as slow for ever.
        if options["intra_op_threads"] == 1:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        try:
            loaded.append(engine.load(path, **options))
        except BaseException as error:  # noqa: BLE001 - raised below
            loaded.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    if isinstance(loaded[0], BaseException):
        raise loaded[0]
    return loaded[0]


def _serve(model: LoadedModel, control: socket.socket) -> None:
    """A thread for each channel that the gateway opens; returns when it closes the control."""
    while True:
        content, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not content:
            return
        end, arena = socket.socket(fileno=descriptors[0]), Arena(descriptors[1])
        threading.Thread(target=_answer, args=(model, end, arena), daemon=True).start()


def _answer(model: LoadedModel, end: socket.socket, arena: Arena) -> None:
    with suppress(Closed), end:
        while True:
            asked = receive(end)
            arena.follow()
            try:
                results = _ran(model, asked, arena)
            except TooMuchMemory as error:
                send(end, {"memory": error.detail})
            except Invalid as error:
                send(end, {"refused": error.detail})
            except MemoryError:
                send(end, {"memory": "running the model on these inputs takes more memory than its process may have"})
            except Exception as error:  # noqa: BLE001 - told to the gateway, which logs it
                send(end, {"defect": repr(error)[:1000]})
            else:
                wanted = room_for(results)
                if wanted > arena.size:
                    send(end, {"grow": wanted})
                    receive(end)
                    arena.follow()
                send(end, {"outputs": arena.put(results)})
            # Views of an arena keep what was mapped before it grew.
            del asked
            results = []


def _ran(model: LoadedModel, asked: dict[str, Any], arena: Arena) -> list[Array]:
    feeds = dict(zip(asked["names"], arena.views(asked["feeds"]), strict=True))
    return model.run(feeds, asked["outputs"])
