"""Seccomp: system calls that a process never makes again, whatever runs in it.

A list of what is forbidden, since what numerical libraries call changes with their versions. Forbidden are ways out
(sockets, other processes, their memory), ways to start programs, and parts of the kernel that are known for their
faults and of no use to a computation.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from app.confinement.kernel import PR_GET_SECCOMP, PR_SET_SECCOMP, prctl

_MODE_FILTER = 2
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, 16
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000

#: Name → its number on x86_64 and on aarch64, None where the architecture does not have it.
_FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    # Programs, and processes.
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    # Ways out. Landlock does not keep a process from sockets that have a path; io_uring goes past this filter.
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    "mq_open": (240, 180),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    # Files that it can see, and that others own or share.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "open_by_handle_at": (304, 265),
    # Another view of the system, and the system itself.
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    # Much attacked, and not needed.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
}
#: Of these, only calls whose first argument is this process are allowed.
_ON_ITSELF_ALONE: dict[str, tuple[int, int]] = {"kill": (62, 129), "tgkill": (234, 131)}
#: The same, or 0, which means it too.
_ON_ITSELF_OR_ZERO: dict[str, tuple[int, int]] = {"prlimit64": (302, 261)}
_CLONE: tuple[int, int] = (56, 220)
#: It hands its flags over in memory, where a filter cannot look; libraries know what to do where it does not exist.
_CLONE3 = 435

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def is_offered() -> bool:
    """Whether this kernel has it, and the filter is known for this architecture."""
    if os.uname().machine not in _ARCHITECTURES:
        return False
    try:
        return prctl(PR_GET_SECCOMP) >= 0
    except OSError:
        return False


def restrict() -> None:
    """Forbid this thread, and those it starts, what is listed above: the calls fail with `EPERM`.

    Takes `PR_SET_NO_NEW_PRIVS`. Raises `OSError` where the kernel does not offer it.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter is known for {machine}")
    program = _program(*_ARCHITECTURES[machine], os.getpid())
    held = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(held)))
    prctl(PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), header)


def _program(column: int, architecture: int, process: int) -> Sequence[bytes]:
    """The filter: of each call it sees the number and the arguments, and says what becomes of it."""
    denied = _ERRNO | errno.EPERM
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        _line(_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
        # The second set of numbers that x86_64 has.
        _line(_AT_LEAST, _X32, 0, 1),
        _line(_RETURN, _KILL),
    ]
    for numbers in _FORBIDDEN.values():
        number = numbers[column]
        if number is not None:
            lines += [_line(_EQUAL, number, 0, 1), _line(_RETURN, denied)]
    lines += [_line(_EQUAL, _CLONE3, 0, 1), _line(_RETURN, _ERRNO | errno.ENOSYS)]
    flags = [_line(_HAS_BITS, _CLONE_THREAD, 1, 0), _line(_RETURN, denied)]
    lines += _where_number_is(_CLONE[column], flags)
    itself = [_line(_EQUAL, process, 1, 0), _line(_RETURN, denied)]
    for each in _ON_ITSELF_ALONE.values():
        lines += _where_number_is(each[column], itself)
    or_zero = [_line(_EQUAL, 0, 2, 0), *itself]
    for each in _ON_ITSELF_OR_ZERO.values():
        lines += _where_number_is(each[column], or_zero)
    return [*lines, _line(_RETURN, _ALLOW)]


def _where_number_is(number: int, on_first_argument: Sequence[bytes]) -> list[bytes]:
    """These lines, with the first argument loaded, for one call only; it is allowed when they fall through."""
    inner = [_line(_LOAD, _ARGUMENT_AT), *on_first_argument, _line(_RETURN, _ALLOW)]
    return [_line(_EQUAL, number, 0, len(inner)), *inner]


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value & 0xFFFFFFFF)
