"""The sandbox of a process that is about to read untrusted bytes: independent layers, each best effort. Linux.

A kernel, a container runtime or an unprivileged account may deny some of them. `enter` applies all it can and returns
their names: no single layer is relied upon.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass

from model.audio.sandbox.seccomp import install_seccomp_filter
from model.parent_death import signal_on_parent_death

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_NOBODY_UID = 65534

# The same numbers on every architecture that Python runs on under Linux.
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
#: Since which version of Landlock there are how many rights on files, on TCP ports, and kinds of contact with
#: processes outside. All are denied. A kernel refuses a ruleset that names a right it does not know.
_LANDLOCK_RIGHTS = ((1, 13, 0, 0), (2, 14, 0, 0), (3, 15, 0, 0), (4, 15, 2, 0), (5, 16, 2, 0), (6, 16, 2, 2))

_libc = ctypes.CDLL(None, use_errno=True)
#: The process that left the network, this one or one that it was forked from.
_offline = list[int]()


@dataclass(frozen=True)
class ResourceLimits:
    """What the process may use: address space, processor time, and the length of a file it writes."""

    memory_bytes: int
    cpu_s: int
    file_bytes: int


class _LandlockRuleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("ports", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


def _call(function: str, *arguments: object) -> int:
    result = int(getattr(_libc, function)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), function)
    return result


def _prctl(option: int, *values: int) -> None:
    _call("prctl", option, *(ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]))


def _silence(_: ResourceLimits) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def leave_network() -> None:
    """Give up every network, loopback included, for this process and those that it forks. Raises OSError."""
    if not _offline:
        # A new user namespace is how an unprivileged account gets one; root keeps its own, to become nobody later.
        _call("unshare", _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)
        _offline.append(os.getpid())


def _drop_root(_: ResourceLimits) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY_UID, _NOBODY_UID, _NOBODY_UID)
        os.setresuid(_NOBODY_UID, _NOBODY_UID, _NOBODY_UID)


def _forbid_new_privileges(_: ResourceLimits) -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _leave_filesystem(_: ResourceLimits) -> None:
    version = _call("syscall", _SYS_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    counts = next(counts for since, *counts in reversed(_LANDLOCK_RIGHTS) if since <= version)
    rules = _LandlockRuleset(*((1 << count) - 1 for count in counts))
    ruleset = _call("syscall", _SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), _trimmed_size(counts), 0)
    try:
        _call("syscall", _SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _trimmed_size(counts: list[int]) -> int:
    """Bytes of the ruleset up to its last field in use: older kernels know a shorter structure."""
    return 8 * max(index + 1 for index, count in enumerate(counts) if count)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _forbid_processes(_: ResourceLimits) -> None:
    _limit(resource.RLIMIT_NPROC, 0)
    if os.geteuid() == 0:
        raise PermissionError("root is not bound by this limit")


def _die_with_parent(_: ResourceLimits) -> None:
    signal_on_parent_death(signal.SIGKILL)


#: In the order in which they are applied. Landlock needs a file descriptor, so the limit on those comes after it; a
#: change of user clears the parent-death signal, so that comes after it; the last takes away the calls that the others
#: need.
LAYERS: dict[str, Callable[[ResourceLimits], None]] = {
    "silence": _silence,
    "network": lambda _: leave_network(),  # nothing is left to do where the fork server has done so
    "unprivileged": _drop_root,
    "no_new_privileges": _forbid_new_privileges,
    "landlock": _leave_filesystem,
    "memory": lambda ceilings: _limit(resource.RLIMIT_AS, ceilings.memory_bytes),
    "cpu": lambda ceilings: _limit(resource.RLIMIT_CPU, ceilings.cpu_s),
    "file_size": lambda ceilings: _limit(resource.RLIMIT_FSIZE, ceilings.file_bytes),
    "core_dump": lambda _: _limit(resource.RLIMIT_CORE, 0),
    "descriptors": lambda _: _limit(resource.RLIMIT_NOFILE, 0),  # no open() and no socket() at all
    "processes": _forbid_processes,
    "parent_death": _die_with_parent,
    "syscalls": lambda _: install_seccomp_filter(_prctl),
}


def enter(limits: ResourceLimits) -> tuple[str, ...]:
    """Apply every sandbox layer to this process, for good, and return the names of the `LAYERS` that took effect.

    Descriptors that are open stay usable; new ones, new processes and modules not yet imported are out of reach.
    """
    return tuple(name for name, apply in LAYERS.items() if _applies(apply, limits))


def _applies(apply: Callable[[ResourceLimits], None], limits: ResourceLimits) -> bool:
    try:
        apply(limits)
    except (OSError, ValueError):
        return False
    return True
