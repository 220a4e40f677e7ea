"""Network, mounts and process ids of a run's own: whatever it leaves over, the kernel takes away with its process.

So no two runs meet, and a run that is killed leaves no network, no mount and no process behind.
"""

import os
import signal
import subprocess
from collections.abc import Sequence

from tests.installed import installed

ISOLATED = ("unshare", "--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child")


def isolated(command: Sequence[str]) -> list[str]:
    """The command of a process that is the first in namespaces of its own."""
    return [*ISOLATED, *command]


def may_isolate() -> bool:
    """Whether namespaces can be made here, as root can on most machines, and in few containers."""
    return subprocess.run([*isolated(["ip", "netns", "list"])], capture_output=True).returncode == 0


def prepare() -> None:
    """Give this process, the first of its namespaces, folders in memory, its loopback device, and an end by SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    for folder in ("/run", "/dev/shm"):  # named networks; what libfaketime names by process id
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    ip("link", "set", "lo", "up")


def ip(*arguments: str) -> None:
    subprocess.run([installed("ip"), *arguments], check=True)
