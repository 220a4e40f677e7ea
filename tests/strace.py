"""strace, attached to a process that runs: it notes what the process asks the kernel for, or has it refused."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def attached(pid: int, *options: str) -> Iterator[None]:
    """Follows a process and its children as long as the block; skips the test where nobody may."""
    command = ["strace", "-f", "-qq", *options, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        time.sleep(0.5)
        try:
            if tracer.poll() is not None:
                pytest.skip("this machine lets nobody trace")
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
