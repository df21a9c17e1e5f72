"""This process's memory: how much it has, how much it may have, and giving freed memory back to the system."""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

_MIB = 1024**2
# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def resident_bytes() -> int:
    """What of this process lies in memory now."""
    resident: int = psutil.Process().memory_info().rss
    return resident


def machine_bytes() -> int:
    """The machine's memory, or what a container's limit leaves of it."""
    total: int = psutil.virtual_memory().total
    return min([total, *filter(None, map(_limit, _CGROUP_LIMITS))])


def _limit(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc: musl and macOS return what is freed by themselves, or never
        return None


_malloc_trim = _trim()


def keep_freed_blocks() -> None:
    """Have the allocator use blocks of up to 32 MiB again, rather than return each to the system when it is freed.

    Else a request of a megabyte waits longer for the kernel to clear pages than for anything else: it took twice as
    long. Up to 64 MiB stay, until `give_back_freed`. Only glibc does otherwise by itself.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)


def give_back_freed() -> None:
    """Have the allocator return what was freed: glibc keeps it, and a model that was unloaded would seem to stay."""
    if _malloc_trim is not None:
        _malloc_trim(0)
