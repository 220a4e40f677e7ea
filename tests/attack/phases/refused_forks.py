"""Processes, threads and descriptors refused by limits while workers die and must be started again."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tests.attack.phase import Attack
from tests.e2e.service import children

FAULT_S = (1.0, 5.0)
REST_S = (2.0, 6.0)
#: Where the kernel counts the tasks of a group: version 1, and version 2 if the group at the top may have children.
GROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))


def refused_forks(attack: Attack) -> None:
    attack.inflict(LIMITS, for_s=FAULT_S, rest_s=REST_S)


@contextmanager
def no_descriptors(attack: Attack) -> Iterator[None]:
    """The supervisor may open nothing, and a worker dies."""
    pid = attack.target.processes.supervisor_pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        kill(attack, "worker")
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def no_forks(attack: Attack) -> Iterator[None]:
    """No process of the service may make another or a thread, and a worker or the front end dies."""
    with counted(attack.target.processes.supervisor_pid) as group:
        if group is None:
            yield
            return
        kill(attack, attack.dice.choice(["worker", "worker", "api"]))
        (group / "pids.max").write_text((group / "pids.current").read_text())
        try:
            yield
        finally:
            (group / "pids.max").write_text("max")


@contextmanager
def counted(supervisor_pid: int) -> Iterator[Path | None]:
    """A group of tasks with the whole service in it; None where none can be made."""
    group = _group()
    if group is None:
        yield None
        return
    try:
        for pid in family(supervisor_pid):
            _move(pid, group)
        yield group
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            _move(int(left), group.parent)
        with suppress(OSError):
            group.rmdir()


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            found += children(one)
    return found


def kill(attack: Attack, kind: str) -> None:
    if pids := attack.target.processes.pids(kind):
        with suppress(ProcessLookupError):
            os.kill(attack.dice.choice(pids), signal.SIGKILL)


def _group() -> Path | None:
    for top in GROUPS:
        group = top / f"attack-{os.getpid()}"
        try:
            group.mkdir(exist_ok=True)
            if (group / "pids.max").exists():
                return group
            group.rmdir()
        except OSError:
            continue
    return None


def _move(pid: int, group: Path) -> None:
    with suppress(OSError):  # it has ended
        (group / "cgroup.procs").write_text(str(pid))


LIMITS: dict[str, Callable[[Attack], AbstractContextManager[object]]] = {
    "no descriptors for the supervisor": no_descriptors,
    "no forks, no threads": no_forks,
}
