"""Run within a confinement: tries each thing named, and tells for each what became of it, as JSON."""

import ctypes
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path


def connect(port: str) -> None:
    socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()


def bind(port: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", int(port)))


def unix_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def allocate(size: str) -> None:
    mmap.mmap(-1, int(size)).close()


def write_bytes(size: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Path("large").open("wb") as file:
        file.truncate(int(size))


def spin(_: str) -> None:
    while True:
        pass


def thread(_: str) -> None:
    began = threading.Event()
    each = threading.Thread(target=began.set)
    each.start()
    each.join()
    assert began.is_set()


def write(path: str) -> None:
    Path(path).write_text("x")


def overwrite(path: str) -> None:
    """Without creating it."""
    os.close(os.open(path, os.O_WRONLY))


def change_mode(path: str) -> None:
    Path(path).chmod(0o777)


def descriptors(_: str) -> list[str]:
    found = []
    for number in range(3, 64):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return found


def fork(_: str) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def abort(_: str) -> None:
    os.abort()


def traced(_: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


ATTEMPTS: dict[str, Callable[[str], object]] = {
    "read": lambda path: Path(path).read_bytes() and None,
    "list": lambda path: os.listdir(path) and None,
    "write": write,
    "overwrite": overwrite,
    "change_mode": change_mode,
    "symlink": lambda path: os.symlink("/etc/passwd", path),
    "connect": connect,
    "bind": bind,
    "unix_socket": unix_socket,
    "socketpair": lambda _: [end.close() for end in socket.socketpair()] and None,
    "exec": lambda path: os.execv(path, [path]),
    "run": lambda path: subprocess.run([path], check=True) and None,
    "fork": fork,
    "thread": thread,
    "kill": lambda process: os.kill(int(process), 0),
    "kill_itself": lambda _: os.kill(os.getpid(), 0),
    "abort": abort,
    "ptrace": traced,
    "unshare": lambda _: os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else _unshare(),
    "limits_of": lambda process: __import__("resource").prlimit(int(process), 7) and None,
    "allocate": allocate,
    "write_bytes": write_bytes,
    "spin": spin,
    "environment": lambda _: sorted(os.environ),
    "descriptors": descriptors,
    "capabilities": lambda _: next(
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
    ),
    "status": lambda name: next(
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
    ),
}


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) < 0:
        raise OSError(ctypes.get_errno(), "unshare")


def main() -> None:
    for wanted in sys.argv[1:]:
        name, _, argument = wanted.partition("=")
        try:
            found = ATTEMPTS[name](argument)
        except (OSError, MemoryError) as error:
            print(json.dumps({"failed": type(error).__name__}), flush=True)
        else:
            print(json.dumps({"done": found}), flush=True)


if __name__ == "__main__":
    main()
