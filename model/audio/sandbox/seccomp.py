"""The system calls that a sandboxed process keeps: reading, writing, memory, time, and its own end.

A seccomp filter on top of the other layers. Where a container forbids those, it alone keeps hostile bytes from sockets,
processes, signals, other processes' memory, and most of the kernel. Linux on x86-64 and AArch64.
"""

import ctypes
import errno
import os
from collections.abc import Callable

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000 | errno.EPERM  # the call returns an error: the decoder's call fails, and so does its track

# Instructions of the kernel's filter machine.
_LOAD = 0x20
_JUMP_IF_EQUAL = 0x15
_RETURN = 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4

#: How the kernel names an architecture to a filter, by what `os.uname` calls it. A column of the table each.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

#: What decoding needs, found by tracing it over every format there is, and what a C library may use in their stead.
SYSCALLS = {
    "brk": (12, 214),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fstat": (5, 80),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "gettid": (186, 178),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "newfstatat": (262, 79),
    "pread64": (17, 67),
    "read": (0, 63),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "sendto": (44, 206),  # the reply, on a descriptor that is open: there is no making another
    "write": (1, 64),
    "writev": (20, 66),
}


class _Instruction(ctypes.Structure):
    """`struct sock_filter`: ``jt`` and ``jf`` are how many instructions to skip where the test is true or false."""

    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction))]


def install_seccomp_filter(prctl: Callable[..., None]) -> None:
    """Deny this process every system call but `SYSCALLS`, for good. Raises OSError where the kernel refuses."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, "no table of system calls for this architecture")
    code = _filter(*_ARCHITECTURES[machine])
    program = _Program(len(code), (_Instruction * len(code))(*code))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _filter(architecture: int, column: int) -> list[_Instruction]:
    numbers = [numbers[column] for numbers in SYSCALLS.values()]
    return [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE_AT),
        _Instruction(_JUMP_IF_EQUAL, 0, len(numbers) + 1, architecture),  # else to the refusal
        _Instruction(_LOAD, 0, 0, _NUMBER_AT),
        *(_Instruction(_JUMP_IF_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        _Instruction(_RETURN, 0, 0, _FAIL),
        _Instruction(_RETURN, 0, 0, _ALLOW),
    ]
