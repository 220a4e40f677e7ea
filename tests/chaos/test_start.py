"""A service whose supervisor is killed while it starts: nothing of it is left, and nobody holds its port."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.app.api.live import eventually
from tests.e2e.service import children
from tests.ports import free_port

#: Seconds from the first process of the service until its supervisor is killed.
MOMENTS_S = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


def processes_of(data_dir: Path) -> list[int]:
    """Every living process that has this folder in its environment."""
    setting = f"APEX_DATA_DIR={data_dir}".encode()
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and setting in environment_of(pid).split(b"\0")]


def environment_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()  # that of a zombie is empty
    except OSError:
        return b""


@pytest.mark.parametrize("started", ["redis", "api"])
@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_a_supervisor_killed_at_its_start_leaves_nobody(tmp_path: Path, moment_s: float, started: str) -> None:
    data_dir, port = tmp_path / "data", free_port("127.0.0.1")
    (tmp_path / "weights" / "mert").mkdir(parents=True)
    settings = {"DATA_DIR": data_dir, "PORT": port, "WEIGHTS_DIR": tmp_path / "weights"}
    environment = os.environ | {f"APEX_{name}": str(value) for name, value in settings.items()}
    supervisor = subprocess.Popen([sys.executable, "-m", "tests.chaos.service"], env=environment)
    try:
        eventually(lambda: len(children(supervisor.pid)) > (started == "api"))
        time.sleep(moment_s)
    finally:
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    try:
        eventually(lambda: processes_of(data_dir) == [])
    finally:
        for pid in processes_of(data_dir):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_free(port))  # a process that ends loses its environment before its sockets


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
