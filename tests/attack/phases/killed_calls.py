"""Processes killed at the moment when they make a certain system call, which strace waits for."""

import time
from collections.abc import Callable
from contextlib import suppress

from tests import strace
from tests.attack.phase import Attack
from tests.strace import CannotTrace, tracing

#: A call that was not made by then is not waited for.
PATIENCE_S = 4.0
REST_S = (1.0, 3.0)
MAX_CALLS_BEFORE = 20

CALLS: dict[str, tuple[str, ...]] = {
    "api": (
        "openat", "write", "fsync", "rename", "unlink", "close", "recvfrom", "sendto", "read", "accept4", "epoll_pwait",
        "epoll_wait", "futex",
    ),
    "worker": ("openat", "read", "sendto", "recvfrom", "recvmsg", "sendmsg", "unlink", "close", "poll", "futex"),
    "redis": ("write", "fdatasync", "read", "epoll_wait", "accept4"),
}  # fmt: skip


def killed_calls(attack: Attack) -> None:
    for act in attack.each(ACTS):
        act(attack)
        attack.wait(attack.dice.uniform(*REST_S))


def lacks_strace() -> str:
    return "" if strace.may_trace() else "strace, or the right to trace"


def killed_at(kind: str, call: str) -> Callable[[Attack], None]:
    """Kill one process of a kind when it makes this call for the nth time from now on."""

    def act(attack: Attack) -> None:
        pids = attack.target.processes.pids(kind)
        if not pids:
            return
        pid, nth = attack.dice.choice(pids), attack.dice.randint(1, MAX_CALLS_BEFORE)
        options = ("-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}")
        with suppress(CannotTrace), tracing(pid, *options):
            if not _wait_for_the_end(attack, kind, pid):
                attack.acts.did("  of these, not called")
                return

    return act


def _wait_for_the_end(attack: Attack, kind: str, pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while pid in attack.target.processes.pids(kind):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


ACTS = {f"{kind} at {call}": killed_at(kind, call) for kind, calls in CALLS.items() for call in calls}
