"""strace, attached to a process that runs: it notes what the process asks the kernel for, or has it refused."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


class CannotTrace(Exception):
    """Nobody may trace here, or the process has ended."""


@contextmanager
def tracing(pid: int, *options: str) -> Iterator[None]:
    """Follows a process and its children as long as the block. Raises `CannotTrace`."""
    command = ["strace", "-f", "-qq", *options, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        try:
            while not is_traced(pid):
                if tracer.poll() is not None:
                    raise CannotTrace
                time.sleep(0.01)
            yield
        finally:
            _end(tracer)


def is_traced(pid: int) -> bool:
    """Whether every thread of a process is traced."""
    try:
        threads = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return all("TracerPid:\t0\n" not in status for status in threads)


def _end(tracer: subprocess.Popen[bytes]) -> None:
    """Have strace let go. One whose process was killed while it attached may not hear of it."""
    tracer.send_signal(signal.SIGINT)
    try:
        tracer.wait(10)
    except subprocess.TimeoutExpired:
        tracer.kill()


@contextmanager
def attached(pid: int, *options: str) -> Iterator[None]:
    """The same for a test, which is skipped where nobody may trace."""
    with ExitStack() as stack:
        try:
            stack.enter_context(tracing(pid, *options))
        except CannotTrace:
            pytest.skip("this machine lets nobody trace")
        yield


def may_trace() -> bool:
    """Whether a process that runs can be traced here."""
    if not shutil.which("strace"):
        return False
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        try:
            with tracing(idle.pid, "-o", "/dev/null"):
                return True
        except CannotTrace:
            return False
        finally:
            idle.kill()
