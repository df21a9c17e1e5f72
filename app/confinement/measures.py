"""All measures together, each as far as this kernel offers it."""

import ctypes
import resource
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app import custom_operators
from app.confinement import landlock, seccomp
from app.confinement.grant import Grant
from app.confinement.kernel import PR_SET_NO_NEW_PRIVS, drop_capabilities, prctl

#: What the interpreter, onnxruntime and torch look at: libraries, and what the machine is like.
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo"),
    *("/etc/localtime", "/etc/os-release", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/dev/null", "/dev/urandom", "/dev/zero"),
    # Its own, whatever its number is.
    "/proc/self",
)
_WRITABLE_DEVICE = Path("/dev/null")


@dataclass(frozen=True)
class Confinement:
    """`landlock`: the version in force, 0 for none: 4 and above forbid TCP, 6 and above signals to others."""

    landlock: int
    seccomp: bool

    @property
    def is_complete(self) -> bool:
        return self.landlock >= 6 and self.seccomp

    def __str__(self) -> str:
        """A sentence for people."""
        if self.is_complete:
            return f"models and datasets are read and run in confined processes (landlock {self.landlock}, seccomp)"
        missing = []
        if self.landlock == 0:
            missing.append("landlock (Linux 5.13), so they can read and write all that this user can")
        elif self.landlock < 6:
            missing.append("signals and abstract sockets kept apart by landlock (Linux 6.12)")
        if not self.seccomp:
            missing.append("seccomp, so they can start programs and use the network")
        return f"processes that read and run models and datasets are confined in part; missing: {'; '.join(missing)}"


@cache
def confinement() -> Confinement:
    """What of it is in force on this machine; besides limits of memory, time and files, which all have."""
    if sys.platform != "linux":
        return Confinement(0, False)
    return Confinement(landlock.abi(), seccomp.is_offered())


def confine(grant: Grant) -> None:
    """Apply all measures to this process, for good. It must have no other thread."""
    custom_operators.allow(grant.operators)
    _limit(grant)
    if sys.platform != "linux":
        return
    # Each by itself: a container may forbid one of them, and the others are worth having.
    with suppress(OSError):
        prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    with suppress(OSError):
        landlock.restrict(_granted(grant))
    with suppress(OSError, KeyError):
        drop_capabilities()
    with suppress(OSError):
        seccomp.restrict()


def _limit(grant: Grant) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: grant.file_bytes,
        resource.RLIMIT_NOFILE: grant.open_files,
        resource.RLIMIT_CPU: grant.cpu_seconds,
        resource.RLIMIT_AS: grant.memory_bytes,
    }
    for kind, limit in limits.items():
        if limit is not None:
            _, most = resource.getrlimit(kind)
            limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
            with suppress(OSError, ValueError):  # a platform without it
                resource.setrlimit(kind, (limit, limit))


def _granted(grant: Grant) -> Iterator[tuple[Path, int]]:
    for place in (*_system(), *grant.readable, *grant.operators.values()):
        yield place, landlock.READ
    for place in _search_path():
        yield place, landlock.LIST
    yield _WRITABLE_DEVICE, landlock.WRITE
    if grant.folder is not None:
        yield grant.folder, landlock.WRITE


def _system() -> Iterator[Path]:
    yield from map(Path, _SYSTEM)
    # Of Python, what is installed, and of a checkout, the packages: a registry may lie beside these.
    for prefix in {sys.prefix, sys.base_prefix}:
        yield Path(prefix) / "lib"
        yield Path(prefix) / "lib64"
    yield from {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    code = Path(__file__).parents[2]
    yield code / "app"
    yield code / "worker"


def _search_path() -> Iterator[Path]:
    """Where modules are looked for: the finder lists these."""
    yield from (Path(place) for place in sys.path if place and Path(place).is_dir())
