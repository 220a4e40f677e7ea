"""Processes that are kept alive, and stopped together."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from app.core.misconfiguration import Misconfigured
from tests.e2e.service import children, command
from tests.strace import attached
from worker import supervisor
from worker.supervisor import Child, Supervisor

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
)


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.1, 0.3))
    monkeypatch.setattr(supervisor, "POLL_S", 0.02)


@contextmanager
def supervising(*children: Child, **options: object) -> Iterator[Supervisor]:
    under_test = Supervisor(children, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=under_test.run)
    thread.start()
    try:
        yield under_test
    finally:
        under_test.stop()
        thread.join()


def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(child: Child) -> int | None:
    return child.process.pid if child.process else None


def test_a_killed_child_is_started_again() -> None:
    child = Child("sleeper", SLEEPER)
    with supervising(child):
        eventually(lambda: pid_of(child))
        first = pid_of(child)
        assert first
        os.kill(first, signal.SIGKILL)
        eventually(lambda: pid_of(child) not in (None, first))


def test_the_name_of_a_life_that_is_over_is_told() -> None:
    child = Child("dying", (sys.executable, "-c", "raise SystemExit(3)"))
    with supervising(child) as under_test:
        eventually(lambda: child.restarts >= 2)
        assert len(under_test.ended) >= 2
        assert child.process is None or child.instance_id not in under_test.ended


@pytest.mark.parametrize(("end", "lacked_memory"), [("os.kill(os.getpid(), 9)", True), ("os._exit(1)", False)])
def test_a_life_that_the_kernel_ended_for_lack_of_memory_is_told_from_others(
    monkeypatch: pytest.MonkeyPatch, end: str, lacked_memory: bool
) -> None:
    monkeypatch.setattr(supervisor, "oom_kills", count().__next__)
    child = Child("hungry", (sys.executable, "-c", f"import os; {end}"))
    with supervising(child) as under_test:
        eventually(lambda: under_test.ended)
    assert set(under_test.ended.values()) == {lacked_memory}


def test_each_life_is_told_its_own_name() -> None:
    child = Child(
        "telling", (sys.executable, "-c", "import os, time; print(os.environ['APEX_SUPERVISED']); time.sleep(9)")
    )
    child.start()
    first = child.instance_id
    assert child.process
    child.process.kill()
    child.process.wait()
    child.start()
    assert child.instance_id != first
    child.process.kill()
    child.process.wait()


def test_a_child_that_keeps_dying_is_started_ever_more_slowly() -> None:
    child = Child("dying", (sys.executable, "-c", "raise SystemExit(3)"))
    with supervising(child):
        eventually(lambda: child.restarts >= 3)
        assert child.start_after - child.started_at >= 0.3


def test_a_child_that_can_never_work_ends_the_supervision() -> None:
    hopeless, other = Child("hopeless", (sys.executable, "-c", "raise SystemExit(78)")), Child("other", SLEEPER)
    with pytest.raises(Misconfigured, match="hopeless cannot start"):
        Supervisor([hopeless, other]).run()
    assert other.process
    assert not alive(other.process.pid)


def test_all_children_end_with_the_supervisor() -> None:
    children = [Child("one", SLEEPER), Child("two", SLEEPER)]
    with supervising(*children):
        eventually(lambda: all(pid_of(child) for child in children))
        pids = [child.process.pid for child in children if child.process]
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_a_child_that_ignores_the_stop_is_killed() -> None:
    child = Child("stubborn", STUBBORN)
    with supervising(child, stop_timeout_s=0.5):
        eventually(lambda: pid_of(child))
        time.sleep(0.3)
        pid = pid_of(child)
    assert pid
    assert not alive(pid)


def test_asked_to_stop_again_it_hurries_its_children() -> None:
    child = Child("stubborn", STUBBORN)
    with supervising(child, stop_timeout_s=60.0) as under_test:
        eventually(lambda: pid_of(child))
        time.sleep(0.3)
        under_test.stop()
        time.sleep(0.1)
        under_test.stop()
    assert child.process
    assert child.process.returncode != -signal.SIGKILL


def test_periodic_work_goes_on_after_it_failed_once() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("Redis is away")

    with supervising(every_s=0.02, on_tick=work):
        eventually(lambda: len(calls) >= 3)


#: Supervises a process that sleeps.
SUPERVISING = """
import sys
from worker.supervisor import Child, Supervisor
Supervisor([Child("sleeper", sys.argv[1:])]).run()
"""


@contextmanager
def supervising_process() -> Iterator[subprocess.Popen[str]]:
    """A supervisor in a process of its own; what it logs can be read."""
    command = [sys.executable, "-c", SUPERVISING, *SLEEPER]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        try:
            eventually(lambda: sleeper_of(parent))
            yield parent
        finally:
            parent.kill()


def sleeper_of(parent: subprocess.Popen[str]) -> int | None:
    """The process that a supervisor keeps alive, once it sleeps."""
    commands = ((pid, command(pid)) for pid in children(parent.pid))
    return next((pid for pid, said in commands if SLEEPER[2] in said and "parent_death" not in said), None)


@pytest.mark.needs("strace")
@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM"])
def test_a_start_that_the_kernel_refuses_is_tried_again(error: str) -> None:
    calls = "clone,clone3,fork,vfork"
    with supervising_process() as parent:
        first = sleeper_of(parent)
        assert first
        with attached(parent.pid, "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"):
            os.kill(first, signal.SIGKILL)
            assert parent.stderr
            said = [parent.stderr.readline() for _ in range(3)]
        eventually(lambda: sleeper_of(parent) not in (None, first))
    assert "ended with code -9" in said[0]
    assert all("could not be started" in line for line in said[1:])


def test_a_supervised_process_ends_when_its_supervisor_is_killed() -> None:
    with supervising_process() as parent:
        pid = sleeper_of(parent)
        parent.kill()
        parent.wait()
        assert pid
        eventually(lambda: not alive(pid) or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
